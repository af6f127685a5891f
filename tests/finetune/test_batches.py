"""Training lists: thinning, padding and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.finetune.augment import AugmentConfig
from reshelf.finetune.batches import Extras, ListDataset, collate, inverse_propensity, padded, thin
from reshelf.finetune.pretraining.session_text import LoggedSource, vocabulary_text
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig


@pytest.fixture(scope="module")
def builder(data: RankingData) -> PromptBuilder:
    config = PromptConfig(template="plain", query_tokens=12)
    return PromptBuilder(train_tokenizer(vocabulary_text([LoggedSource(data)], config), 700), config, data.items)


def ranking(n: int, positive: tuple[int, ...]) -> RankingList:
    labels = tuple(3 if k in positive else 0 for k in range(n))
    return RankingList(list_id="l", user_id="u", candidates=tuple(f"i{k}" for k in range(n)), labels=labels,
                       features={"f": tuple(map(float, range(n)))})  # fmt: skip


def test_thinning_keeps_positives_order_and_parallel_values() -> None:
    thinned = thin(ranking(30, (4, 29)), 6, [0, 1])
    numbers = [int(c[1:]) for c in thinned.candidates]
    assert len(numbers) == 6
    assert numbers == sorted(numbers)
    assert {4, 29} <= set(numbers)
    assert thinned.features["f"] == tuple(map(float, numbers))
    assert [n for n, y in zip(numbers, thinned.labels or ()) if y] == [4, 29]


def test_thinning_draws_by_its_seed_alone() -> None:
    full = ranking(30, (4,))
    assert thin(full, 6, [0, 1]) == thin(full, 6, [0, 1])
    assert any(thin(full, 6, [0, 1]) != thin(full, 6, [0, epoch]) for epoch in range(2, 6))
    assert thin(full, 0, [0]) is full


@pytest.mark.parametrize(("hard", "first"), [(0.5, [0, 1]), (1.0, [0, 1, 2, 3])])
def test_hard_negatives_are_what_the_first_stage_put_highest(hard: float, first: list[int]) -> None:
    """Four beside two wanted ones; the rest is still drawn, and from what is not there yet."""
    full = ranking(30, (4, 29))
    seen = set()
    for epoch in range(8):
        chosen = [full.candidates.index(c) for c in thin(full, 6, [0, epoch], hard).candidates]
        assert chosen == sorted(chosen)
        assert len(set(chosen)) == 6
        assert {4, 29, *first} <= set(chosen)
        seen |= set(chosen)
    assert (len(seen) > 12) == (hard < 1)


def test_another_epoch_draws_others(data: RankingData, builder: PromptBuilder) -> None:
    dataset = ListDataset(data.lists["train"], builder, max_candidates=3)
    first = [[len(i) for i in dataset[n].prompt.items] for n in range(len(dataset))]
    dataset.set_epoch(1)
    assert first != [[len(i) for i in dataset[n].prompt.items] for n in range(len(dataset))]


def test_a_batch_puts_scores_back_in_their_lists(data: RankingData, builder: PromptBuilder) -> None:
    short = data.lists["train"][1].only([0, 2, 3])
    batch = collate([ListDataset([data.lists["train"][0], short], builder)[n] for n in range(2)])
    assert batch.packed.sizes == (8, 3)
    assert batch.mask.sum(1).tolist() == [8, 3]
    assert batch.labels[1, :3].tolist() == list(short.labels or ())
    grid = padded(torch.arange(11.0), batch.mask)
    assert grid[1].tolist() == [8, 9, 10, 0, 0, 0, 0, 0]


def test_lists_without_labels_are_refused_and_long_queries_cut(data: RankingData, builder: PromptBuilder) -> None:
    good = data.lists["train"][0]
    with pytest.raises(InputError, match=f"{good.list_id}, field labels"):
        ListDataset([good.model_copy(update={"labels": None})], builder)
    long = ListDataset([good.model_copy(update={"query": "very " * 50})], builder)
    assert long[0].prompt.truncated.query_tokens > 0


def test_labels_are_numbers_of_the_list(data: RankingData, builder: PromptBuilder) -> None:
    example = ListDataset(data.lists["train"], builder)[2]
    assert np.array_equal(example.labels, data.lists["train"][2].labels)


LOOKS = np.array([1.0, 0.5, 0.25, 0.05])


def test_inverse_propensities_are_those_of_the_shown_places_of_positives() -> None:
    shown = ranking(6, (0, 2, 3)).model_copy(update={"positions": (3, 1, 2, 60, 5, 4)})
    found = inverse_propensity(shown, LOOKS, 10.0)
    assert found.dtype == np.float32
    assert found.tolist() == [4, 1, 2, 10, 1, 1]  # place 60 is like the last one, 1/20, cut off at 10


def test_places_are_those_before_thinning_and_shuffling(data: RankingData, builder: PromptBuilder) -> None:
    whole = data.lists["train"][0]
    labels = tuple([0] * (len(whole.candidates) - 1) + [1])
    last = whole.model_copy(update={"positions": None, "labels": labels})
    propensities = 1 / np.arange(1.0, len(labels) + 1)
    for augment in (AugmentConfig(), AugmentConfig(shuffle=True)):
        extras = Extras(propensities=propensities, max_inverse_propensity=100.0, augment=augment)
        example = ListDataset([last], builder, 3, extras=extras)[0]
        assert example.inverse_propensity is not None
        assert len(example.labels) == 3
        assert example.inverse_propensity[example.labels == 1].tolist() == [len(labels)]
        assert (example.inverse_propensity[example.labels == 0] == 1).all()


def test_a_teachers_scores_stay_with_their_candidates(data: RankingData, builder: PromptBuilder) -> None:
    lists = []
    for whole in data.lists["train"][:2]:
        teacher = tuple(float(len(ids)) for ids in builder.build(whole).items)
        lists.append(whole.model_copy(update={"features": {"teacher": teacher}}))
    extras = Extras(teacher="teacher", augment=AugmentConfig(shuffle=True))
    dataset = ListDataset([lists[0], lists[1].only([0, 1, 2])], builder, 5, extras=extras)
    batch = collate([dataset[0], dataset[1]])
    assert batch.teacher is not None
    for row, example in zip(batch.teacher, (dataset[0], dataset[1])):
        lengths = [float(len(ids)) for ids in example.prompt.items]
        assert row.tolist() == lengths + [0.0] * (5 - len(lengths))
    moved = batch.to("cpu")
    assert moved.teacher is not None
    assert torch.equal(moved.teacher, batch.teacher)
    assert torch.equal(moved.inverse_propensity, torch.ones(2, 5))
    with pytest.raises(InputError, match=rf"{lists[0].list_id}, field features\.teacher: missing"):
        ListDataset(data.lists["train"], builder, extras=extras)

"""Training lists: thinning, padding and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reshelf.data.schema import RankingList
from reshelf.data.store import RankingData
from reshelf.errors import InputError
from reshelf.finetune.batches import ListDataset, collate, padded, thin
from reshelf.finetune.sessions import LoggedSource, vocabulary_text
from reshelf.finetune.tokenizer import train_tokenizer
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


def test_lists_without_labels_or_with_a_long_query_are_refused(data: RankingData, builder: PromptBuilder) -> None:
    good = data.lists["train"][0]
    with pytest.raises(InputError, match=f"{good.list_id}, field labels"):
        ListDataset([good.model_copy(update={"labels": None})], builder)
    with pytest.raises(InputError, match=f"{good.list_id}, field query"):
        ListDataset([good.model_copy(update={"query": "very " * 50})], builder)


def test_labels_are_numbers_of_the_list(data: RankingData, builder: PromptBuilder) -> None:
    example = ListDataset(data.lists["train"], builder)[2]
    assert np.array_equal(example.labels, data.lists["train"][2].labels)

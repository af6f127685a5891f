"""Random changes to training lists: what they change, what they leave, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.data.signals import PERSONAL
from reshelf.errors import InputError
from reshelf.finetune import augment
from reshelf.finetune.augment import AugmentConfig, augmented, build_augmented, drop_fields, without_features
from reshelf.finetune.batches import Extras, ListDataset
from reshelf.finetune.pretraining.session_text import LoggedSource, vocabulary_text
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels, fit_levels

EVERYTHING = AugmentConfig(0.5, 0.5, True, 0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def builder(data: RankingData) -> PromptBuilder:
    config = PromptConfig(template="plain", fields=["title", "brand", "price"])
    return PromptBuilder(train_tokenizer(vocabulary_text([LoggedSource(data)], config), 700), config, data.items)


def ranking(events: int = 6) -> RankingList:
    numbers = tuple(map(float, range(10)))
    return RankingList(
        list_id="l", user_id="u", candidates=tuple(f"i{k}" for k in range(10)),
        labels=tuple(k % 4 for k in range(10)), scores=numbers, positions=tuple(range(1, 11)),
        history=tuple(Event(kind=EventKind.CLICK, item_id=f"i{k}") for k in range(events)),
        features={"popularity": numbers, PERSONAL[0]: numbers},
    )  # fmt: skip


def test_nothing_is_changed_unless_asked_for(data: RankingData, builder: PromptBuilder) -> None:
    assert augmented(ranking(), AugmentConfig(), [0]) == ranking()
    one = data.lists["train"][0]
    prompt, plain = build_augmented(builder, one, AugmentConfig(), [0]), builder.build(one)
    assert all(np.array_equal(a, b) for a, b in zip(prompt.items, plain.items, strict=True))


def test_without_history_personal_signals_are_zero_and_others_stay() -> None:
    cold = augmented(ranking(), AugmentConfig(history_dropout=1.0), [0])
    assert cold.history == ()
    assert cold.features[PERSONAL[0]] == (0.0,) * 10
    assert cold.model_copy(update={"history": ranking().history, "features": ranking().features}) == ranking()
    assert cold.features["popularity"] == ranking().features["popularity"]
    assert augmented(ranking(), AugmentConfig(event_dropout=1.0), [0]) == cold, (
        "a list that lost all events is the same"
    )


def test_probabilities_are_what_is_asked_for() -> None:
    cold = [not augmented(ranking(), AugmentConfig(history_dropout=0.3), [0, 0, n]).history for n in range(1000)]
    assert np.mean(cold) == pytest.approx(0.3, abs=0.05)
    kept = [len(augmented(ranking(), AugmentConfig(event_dropout=0.3), [0, 0, n]).history) for n in range(500)]
    assert np.mean(kept) / 6 == pytest.approx(0.7, abs=0.04)
    some = augmented(ranking(60), AugmentConfig(event_dropout=0.3), [0]).history
    places = [ranking(60).history.index(event) for event in some]
    assert 20 < len(places) < 60
    assert places == sorted(places)


def test_shuffling_moves_everything_that_runs_parallel() -> None:
    moved = augmented(ranking(), AugmentConfig(shuffle=True), [0, 1, 2])
    order = [int(c[1:]) for c in moved.candidates]
    assert sorted(order) == list(range(10)) != order
    assert moved == ranking().only(order)
    orders = {augmented(ranking(), AugmentConfig(shuffle=True), [0, epoch, 2]).candidates for epoch in range(20)}
    assert len(orders) == 20


def test_draws_repeat_and_one_kind_leaves_the_others_alone() -> None:
    assert augmented(ranking(), EVERYTHING, [3, 1, 4]) == augmented(ranking(), EVERYTHING, [3, 1, 4])
    both = augmented(ranking(), AugmentConfig(event_dropout=0.5, shuffle=True), [3, 1, 4])
    assert both.history == augmented(ranking(), AugmentConfig(event_dropout=0.5), [3, 1, 4]).history
    assert both.candidates == augmented(ranking(), AugmentConfig(shuffle=True), [3, 1, 4]).candidates


def test_items_lose_optional_fields_and_words_but_never_all_words() -> None:
    item = Item(item_id="i", title="red wool hat", brand="B", price=3.0, currency="EUR", rating=4.0, rating_count=7)
    bare = drop_fields(item, AugmentConfig(field_dropout=1.0), np.random.default_rng(0))
    assert bare == Item(item_id="i", title="red wool hat")
    assert drop_fields(bare, AugmentConfig(field_dropout=1.0), np.random.default_rng(0)) is bare
    short = drop_fields(item, AugmentConfig(word_dropout=1.0), np.random.default_rng(0))
    assert short.title in {"red", "wool", "hat"}
    assert short.model_copy(update={"title": item.title}) == item
    titles = {drop_fields(item, AugmentConfig(word_dropout=0.5), np.random.default_rng(n)).title for n in range(60)}
    assert {"red hat", "wool hat", "red wool"} <= titles


def test_changed_candidates_are_written_as_such_and_the_history_whole(
    data: RankingData, builder: PromptBuilder
) -> None:
    one = next(r for r in data.lists["train"] if r.history)
    config, seed = AugmentConfig(field_dropout=0.2, word_dropout=0.1), [0, 0, 7]
    prompt, plain = build_augmented(builder, one, config, seed), builder.build(one)
    draws = np.random.default_rng([*seed, 4])
    fresh = builder.over({i: drop_fields(builder.items[i], config, draws) for i in one.candidates})
    expected = fresh.build(one.model_copy(update={"history": ()}))
    same = [np.array_equal(a, b) for a, b in zip(prompt.items, plain.items, strict=True)]
    assert 0 < sum(same) < len(same)
    assert all(np.array_equal(a, b) for a, b in zip(prompt.items, expected.items, strict=True))
    assert np.array_equal(prompt.prefix, plain.prefix)
    again = builder.build(one)
    assert all(np.array_equal(a, b) for a, b in zip(again.items, plain.items, strict=True)), "the cache is untouched"


def test_changes_draw_other_numbers_than_the_thinning_of_the_list() -> None:
    """To NumPy [0, 0, 7] and [0, 0, 7, 0] are one seed (findings/numpy_first_list_draws_what_the_run_draws.sh)."""
    thins = np.random.default_rng([0, 0, 7]).random()
    whats = (augment._COLD, augment._EVENTS, augment._ORDER, augment._ITEMS, augment._NUMBERS)
    draws = {augment._draws([0, 0, 7], what).random() for what in whats}
    assert len(draws) == len(whats)
    assert thins not in draws
    assert augment._draws([0, 0, 7], 0).random() == thins


def test_numbers_go_missing_by_feature_by_candidate_and_by_list() -> None:
    read = ["first_stage", "popularity"]
    config, whole = AugmentConfig(feature_dropout=0.2), ranking()
    lost = []
    for n in range(2000):
        changed = without_features(whole, read, config, [0, 0, n])
        assert changed.features[PERSONAL[0]] == whole.features[PERSONAL[0]], "what is not read stays, as a teacher's"
        rows = np.array([changed.scores, changed.features["popularity"]])
        assert ((rows == np.arange(10)) | np.isnan(rows)).all()
        lost.append(np.isnan(rows))
    found = np.array(lost)  # [lists, features, candidates]
    assert found.all(axis=(1, 2)).mean() == pytest.approx(0.2 + 0.8 * 0.04, abs=0.03)
    assert found[:, 0].all(axis=1).mean() == pytest.approx(1 - 0.8 * 0.8, abs=0.03)
    assert found[:, 0, 3].mean() == pytest.approx(1 - 0.8**3, abs=0.03)
    assert (found[:, 0] & found[:, 1]).any(axis=1).mean() > found[:, 0].all(axis=1).mean(), "new products lack both"


def test_only_a_model_that_knows_of_missing_numbers_trains_on_them(data: RankingData, builder: PromptBuilder) -> None:
    one = data.lists["train"][0]
    config, seed = AugmentConfig(feature_dropout=1.0), [0, 0, 0]

    def texts(levels: FeatureLevels) -> list[str]:
        tokenizer = builder._parts.encoder.tokenizer
        prompt = PromptConfig(template="plain", features=["first_stage"])
        made = PromptBuilder(tokenizer, prompt, data.items, levels)
        dataset = ListDataset([one], made)  # validation lists: nothing is taken away
        assert all(np.array_equal(a, b) for a, b in zip(dataset[0].prompt.items, made.build(one).items, strict=True))
        return [tokenizer.decode(ids) for ids in build_augmented(made, one, config, seed).items]

    known, unknown = (texts(fit_levels([one], ["first_stage"], missing=missing)) for missing in (True, False))
    assert all(text.rstrip().endswith("first_stage ? =>") for text in known)
    assert not any("?" in text.rsplit("first_stage", 1)[1] for text in unknown)


def test_a_data_set_draws_by_seed_epoch_and_list(data: RankingData, builder: PromptBuilder) -> None:
    def tokens(seed: int, epoch: int) -> list[list[int]]:
        dataset = ListDataset(data.lists["train"], builder, 5, seed, Extras(augment=EVERYTHING))
        dataset.set_epoch(epoch)
        return [np.concatenate([e.prompt.prefix, *e.prompt.items]).tolist() for e in map(dataset.__getitem__, range(4))]

    assert tokens(0, 1) == tokens(0, 1)
    assert tokens(0, 1) != tokens(0, 2)
    assert tokens(0, 1) != tokens(1, 1)


def test_probabilities_outside_0_and_1_are_refused() -> None:
    with pytest.raises(InputError, match=r"augment\.event_dropout is 1\.5"):
        AugmentConfig(event_dropout=1.5)
    with pytest.raises(InputError, match=r"augment\.word_dropout is nan"):
        AugmentConfig(word_dropout=float("nan"))

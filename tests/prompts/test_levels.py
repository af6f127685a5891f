"""Candidate numbers as levels: in order, spread out where most are zero, and clipped where they are new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.fields import number
from reshelf.prompts.levels import TOP, FeatureLevels, fit_levels, level_text
from reshelf.prompts.parts import Parts

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def listed(values: Sequence[float | None], **more: object) -> RankingList:
    ids = tuple(f"p{n}" for n in range(len(values)))
    return RankingList(list_id="l1", user_id="u", candidates=ids, features={"popularity": tuple(values)}, **more)  # type: ignore[arg-type]


@given(
    seen=st.lists(NUMBERS, min_size=1, max_size=60),
    new=st.lists(NUMBERS, min_size=1, max_size=60),
    top=st.sampled_from([2, 7, TOP, 50]),
)
def test_levels_keep_the_order_and_stay_in_range(seen: list[float], new: list[float], top: int) -> None:
    levels = fit_levels([listed(seen)], ["popularity"], top)
    values = sorted([*seen, *new])
    found = levels.of(listed(values))["popularity"]
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() <= top
    of_seen = levels.of(listed(seen))["popularity"]
    assert of_seen[int(np.argmin(seen))] == 0, "the lowest value seen is level 0"
    assert levels.of(listed([min(seen) - 1.0]))["popularity"].tolist() == [0]
    assert levels.of(listed([max(seen) + 1.0]))["popularity"][0] >= of_seen.max()


def test_zero_inflated_values_still_use_all_levels() -> None:
    """Quantiles over everything would put nineteen of twenty edges at zero."""
    values = [0.0] * 950 + [float(n) for n in range(1, 1001)][:400]
    found = fit_levels([listed(values)], ["popularity"]).of(listed(values))["popularity"]
    assert set(found[:950]) == {0}
    assert set(found[950:]) == set(range(1, TOP + 1))
    assert np.bincount(found[950:])[1:].max() <= 40, "no level holds more than a tenth of what is above zero"


def test_values_that_are_nearly_always_the_same_still_differ() -> None:
    """Quantiles alone would make two levels of the share of a query's words found in a title."""
    values = [0.375, 0.5, 0.6, 0.75, 0.85] + [1.0] * 1000
    found = fit_levels([listed(values)], ["popularity"]).of(listed(values))["popularity"]
    assert len(set(found[:6])) == 6
    assert (np.diff(found[:6]) > 0).all()


def test_a_constant_and_no_lists_at_all() -> None:
    assert fit_levels([listed([3.0, 3.0])], ["popularity"]).of(listed([2.0, 3.0, 4.0]))["popularity"].tolist() == [
        0,
        0,
        1,
    ]
    assert fit_levels([], ["popularity"]).of(listed([0.0, 1.0]))["popularity"].tolist() == [0, 1]


def test_missing_numbers_leave_the_levels_of_the_others_as_they_are() -> None:
    values: list[float | None] = [float(n) for n in range(40)]
    with_gaps, gaps = listed([None, *values, None]), listed([None, None])
    assert fit_levels([with_gaps], ["popularity"]) == fit_levels([listed(values)], ["popularity"])
    assert fit_levels([gaps], ["popularity"]) == fit_levels([], ["popularity"])


def test_first_stage_means_the_scores() -> None:
    ranking = listed([0.0, 0.0, 0.0], scores=(9.0, 5.0, 1.0))
    found = fit_levels([ranking], ["first_stage"]).of(ranking)["first_stage"]
    assert found[0] > found[1] > found[2] == 0


@pytest.mark.parametrize(("name", "where"), [("stock", "features.stock"), ("first_stage", "scores")])
def test_a_missing_feature_is_named(name: str, where: str, bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    ranking = listed([1.0])
    expected = f"list l1, field {where}: missing, but the prompt's features name '{name}'"
    with pytest.raises(InputError, match=expected):
        fit_levels([ranking], [name])
    items = {"p0": Item(item_id="p0", title="oak")}
    config = PromptConfig(template="plain", features=[name])
    builder = PromptBuilder(bytes_tokenizer, config, items, FeatureLevels({name: [1.0]}))
    for call in (builder.build, builder.check):
        with pytest.raises(InputError, match=expected):
            call(ranking)
    with pytest.raises(InputError, match=f"no levels known for '{name}'"):
        PromptBuilder(bytes_tokenizer, config, items)


def test_a_missing_number_is_a_question_mark_to_models_that_know_it(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    items = {f"p{n}": Item(item_id=f"p{n}", title="oak") for n in range(3)}
    config = PromptConfig(template="plain", features=["popularity"])
    ranking = listed([0.0, 2.0]).model_copy(update={"features": {"popularity": (0.0, float("nan"))}})
    old, new = (FeatureLevels({"popularity": [1.0]}, missing=known) for known in (False, True))
    texts = [
        bytes_tokenizer.decode(ids) for ids in PromptBuilder(bytes_tokenizer, config, items, new).build(ranking).items
    ]
    assert [text.split("popularity ")[1].split()[0] for text in texts] == ["0", "?"]
    with pytest.raises(InputError, match=r"list l1, field features\.popularity\[1\]: NaN"):
        PromptBuilder(bytes_tokenizer, config, items, old).build(ranking)
    # Where no number is missing both write the same, and the longest prompt has room for what is longer.
    whole = listed([0.0, 2.0])
    written = [PromptBuilder(bytes_tokenizer, config, items, one).build(whole).items for one in (old, new)]
    assert all(np.array_equal(a, b) for a, b in zip(*written, strict=True))
    assert not fit_levels([whole], [], missing=True).missing, "a model that reads no numbers stays what it was"


@pytest.mark.parametrize("names", ["prefix", "candidate"])
def test_letters_stand_for_levels_in_their_order(
    names: Literal["prefix", "candidate"], bytes_tokenizer: PreTrainedTokenizerFast
) -> None:
    letters = PromptConfig(
        template="plain", feature_names=names, features=["popularity"], level_format="letter", levels=51
    )
    numbers = replace(letters, level_format="number")
    ranking = listed([0.0, 25.0, 26.0, None])
    items = {i: Item(item_id=i, title="mug") for i in ranking.candidates}
    levels = FeatureLevels({"popularity": [n - 0.5 for n in range(1, 52)]}, missing=True)
    texts = {
        config.level_format: [
            bytes_tokenizer.decode(i)
            for i in PromptBuilder(bytes_tokenizer, config, items, levels).build(ranking).items
        ]
        for config in (letters, numbers)
    }
    words = {"number": ["0", "25", "26", "?"], "letter": ["A", "Z", "a", "?"]}
    for kind, found in texts.items():
        assert [text.split()[-2] for text in found] == words[kind]
    with pytest.raises(InputError, match=r"prompt\.levels is 52; give a number from 2 to 51"):
        replace(letters, levels=52)


@pytest.mark.parametrize("template", ["plain", "qwen3"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_template_writes_levels_as_pretraining_reads_them(
    template: Literal["plain", "qwen3"], language: Literal["en", "zh"], bytes_tokenizer: PreTrainedTokenizerFast
) -> None:
    config = PromptConfig(template=template, language=language, feature_names="prefix", features=["popularity"])
    parts = Parts(bytes_tokenizer, config)
    assert bytes_tokenizer.decode(parts.own("level", 7, False)) == level_text(7)
    assert bytes_tokenizer.decode(parts.own("level", 7, True)).endswith(level_text(7))
    assert level_text(7) in bytes_tokenizer.decode(parts.own("feature", "popularity", 7, 20))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (4.99, "4.99"), (9.999, "10"), (39.94, "39.9"), (99.96, "100"), (12345.6, "12346"), (1e7, "10000000")],
)
def test_numbers_have_no_exponent(value: float, expected: str) -> None:
    assert number(value) == expected

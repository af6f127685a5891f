"""Half surrogate pairs become U+FFFD, wherever they are; everything else stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.unicode import DEEPEST, replace_half_surrogates

ANY_TEXT = st.text(st.characters(codec=None), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(ANY_TEXT, inside, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_comes_back_can_be_written_and_is_the_same_where_it_could_be_before(value: Any) -> None:
    whole, replaced = replace_half_surrogates(value)
    json.dumps(whole, ensure_ascii=False).encode()
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Halves that stand side by side make a character, and are none that were replaced.
        assert replaced or json.dumps(whole) == json.dumps(json.loads(json.dumps(value)))
    else:
        assert whole is value
        assert replaced == 0


@pytest.mark.parametrize(
    ("text", "whole", "replaced"),
    [
        ("mug", "mug", 0),
        ("mug \ud83d", "mug \ufffd", 1),
        ("\ude00\ud83d", "\ufffd\ufffd", 2),
        ("\ud83d" + "\ude00", "😀", 0),
        ("\ufffd\ud800", "\ufffd\ufffd", 1),
    ],
)
def test_each_half_is_one_replacement_character(text: str, whole: str, replaced: int) -> None:
    assert replace_half_surrogates(text) == (whole, replaced)
    assert replace_half_surrogates({"a": [text], text: 1}) == ({"a": [whole], whole: 1}, 2 * replaced)


def test_what_is_nested_too_deep_is_refused() -> None:
    value: Any = "\ud800"
    for _ in range(DEEPEST):
        value = [value]
    assert replace_half_surrogates(value)[1] == 1
    with pytest.raises(ValueError, match="50 levels"):
        replace_half_surrogates([value])
    for _ in range(900):
        value = [value]
    with pytest.raises(ValueError, match="50 levels"):
        replace_half_surrogates(value)

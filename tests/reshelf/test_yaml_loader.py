"""A key that is there twice is refused with its line; what anchors and merges repeat is not there twice."""

from __future__ import annotations

import pytest
import yaml

from reshelf.yaml_loader import UniqueKeyLoader


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x:\n  - {a: 1,\n     a: 2}\n"])
def test_a_key_that_is_there_twice_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"is there twice") as caught:
        yaml.load(text, UniqueKeyLoader)
    assert f"line {text.count(chr(10))}" in str(caught.value)


def test_what_a_merge_overrides_is_there_once() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, y: 4}\nd: [{x: 1}, {x: 1}]\n1: a\n'1': b\n"
    values = yaml.load(text, UniqueKeyLoader)
    assert values == yaml.safe_load(text)
    assert values["c"] == {"x": 1, "y": 4}

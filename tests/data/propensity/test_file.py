"""The file of propensities: what is written is read, and what is not one is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reshelf.data.propensity.file import read_propensities, write_propensities
from reshelf.errors import InputError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = np.arange(1, 30) ** -0.7
    write_propensities(tmp_path / "propensities.json", values)
    assert np.array_equal(read_propensities(tmp_path / "propensities.json"), values)
    assert [path.name for path in tmp_path.iterdir()] == ["propensities.json"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not JSON"),
        ("[1.0, 0.5]", "field positions: missing or not a list"),
        ('{"places": [1.0]}', "field positions: missing or not a list"),
        ('{"positions": []}', "field positions: empty"),
        ('{"positions": [1.0, "half"]}', "place 2: 'half' is not a number above 0"),
        ('{"positions": [1.0, true]}', "place 2: True is not"),
        ('{"positions": [1.0, 0.5, 0.0]}', "place 3: 0.0 is not"),
        ('{"positions": [1.0, 1.5]}', "place 2: 1.5 is not"),
        ('{"positions": [1.0, NaN]}', "place 2: nan is not"),
        ('{"positions": [0.8, 0.5]}', r"place 1: 0.8 is not 1\.0"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "propensities.json"
    path.write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        read_propensities(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_bad_values_to_write_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_propensities(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="place 2: 0"):
        write_propensities(tmp_path / "propensities.json", [1.0, 0.0])
    assert not list(tmp_path.iterdir())

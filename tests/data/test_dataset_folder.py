"""What a data set folder may not hold, though a request may."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reshelf.data.dataset_folder import (
    LIST_SCHEMA,
    RankingData,
    from_row,
    load_dataset_folder,
    save_dataset_folder,
    to_row,
)
from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("scores", [1.0, None], "field scores.1"),
        ("features", [{"name": "popularity", "values": [None, 1.0]}], "field features.popularity.0"),
    ],
)
def test_a_number_that_is_null_is_refused_with_its_row(field: str, value: object, named: str, tmp_path: Path) -> None:
    items = {name: Item(item_id=name, title=name) for name in "ab"}
    lists = [RankingList(list_id=f"l{n}", user_id="u", candidates=("a", "b"), scores=(2.0, 1.0)) for n in range(2)]
    save_dataset_folder(tmp_path, RankingData(items, {"test": lists}))
    assert load_dataset_folder(tmp_path).lists["test"] == lists
    rows = [to_row(lists[0]), to_row(lists[1]) | {field: value}]
    pq.write_table(pa.Table.from_pylist(rows, schema=LIST_SCHEMA), tmp_path / "test.parquet")
    with pytest.raises(InputError, match=rf"test\.parquet row 1, {named}: null; give a number"):
        load_dataset_folder(tmp_path)


@pytest.mark.parametrize("field", ["features", "context"])
def test_a_name_that_is_there_twice_is_refused_and_not_the_last_one_read(field: str, tmp_path: Path) -> None:
    items = {name: Item(item_id=name, title=name) for name in "ab"}
    one = RankingList(list_id="l", user_id="u", candidates=("a", "b"))
    save_dataset_folder(tmp_path, RankingData(items, {"test": [one]}))
    values = {"features": ("values", [1.0, 2.0], [3.0, 4.0]), "context": ("value", "evening", "morning")}[field]
    pairs = [{"name": "part", values[0]: value} for value in values[1:]]
    pq.write_table(pa.Table.from_pylist([to_row(one) | {field: pairs}], schema=LIST_SCHEMA), tmp_path / "test.parquet")
    with pytest.raises(InputError, match=rf"test\.parquet row 0, field {field}: 'part' is there twice"):
        load_dataset_folder(tmp_path)


def test_a_struct_whose_features_a_row_lacks_has_none() -> None:
    row = {"list_id": "l", "user_id": "u", "candidates": ["a"], "features": {"pop": None, "age": [1.0]}}
    assert from_row(RankingList, row).features == {"age": (1.0,)}

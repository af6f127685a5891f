"""Rows as systems that track shoppers write them: several products, lists of objects, JSON in text."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from export import Export
from log_samples import lists_of

FIRST, LATER, LAST = "2026-03-01T10:05:00Z", "2026-03-01T10:09:00Z", "2026-04-01T00:00:00Z"
TRACKED: list[dict[str, Any]] = [
    {"id": "1", "who": "ann", "at": "2026-03-01T09:00:00Z", "event": "view", "data": {"sku": "5"}},
    {"id": "2", "who": "ann", "at": "2026-03-01T10:00:00Z", "event": "search",
     "data": {"term": "mug", "hits": [{"sku": n, "place": int(n)} for n in "123"]}},
    {"id": "3", "who": "ann", "at": "2026-03-01T10:00:30Z", "event": "click", "data": {"sku": "1"}},
    {"id": "4", "who": "ann", "at": FIRST, "event": "purchase",
     "data": {"lines": [{"sku": "2", "n": 1}, {"sku": "3", "n": 2}]}},
    {"id": "5", "who": "ann", "at": LATER, "event": "refund", "data": {"lines": [{"sku": "3", "n": 2}]}},
    {"id": "6", "who": "ann", "at": LATER, "event": "login", "data": {}},
    {"id": "7", "who": "zoe", "at": LAST, "event": "view", "data": {"sku": "1"}},
]  # fmt: skip


def as_text(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with JSON as text, as warehouses and exports to CSV hold it."""
    return [row | {"data": json.dumps(row["data"])} for row in rows]


def as_csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_text(rows))
    return out.getvalue()


def tracked(export: Export, name: str, rows: Any) -> Export:
    """Lists and events of one table: what was done with a product, and with the products of an order."""
    del export.mapping["pairs"]
    same = {"file": name, "user_id": "who", "time": "at"}
    export.mapping["lists"] = same | {
        "where": {"event": "search"}, "list_id": "id", "query": "data.term", "candidates": "data.hits.sku",
        "positions": "data.hits.place",
    }  # fmt: skip
    return export.of_events(
        rows, name, **same, item_id=["data.sku", "data.lines.sku"], kind_column="event", event_id="id",
        where={"event": {"not": "search"}},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["t.jsonl", "text.jsonl", "t.csv", "t.parquet"])
def test_a_path_goes_into_lists_of_objects_and_into_text(export: Export, name: str) -> None:
    rows = {"t.jsonl": TRACKED, "t.csv": as_csv(TRACKED)}.get(name, as_text(TRACKED))
    assert tracked(export, name, rows).load() == ["1:1 2:3 3:0 | view 5"]
    assert lists_of(export.data)[0].query == "mug"
    dropped = {"not chosen by where": 1, "kind not mapped": 1, "takes another event back": 1}
    assert export.report["tables"]["events"]["dropped"] == dropped
    export.mapping["events"]["quantity"] = "data.lines.n"
    assert export.load() == ["1:1 2:3 3:0 | view 5"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_list_of_objects_that_is_text(export: Export, form: str) -> None:
    """As Segment's warehouse has `products`, and a dotted name may be a column's own."""
    rows: list[dict[str, Any]] = [
        {"user": "ann", "time": FIRST, "order.lines": '[{"sku": "2"}, {"sku": "3"}]'},
        {"user": "zoe", "time": LAST, "order.lines": '[{"sku": "1"}]'},
    ]
    if form == "csv":
        cells = "".join(
            '{user},{time},"{lines}"\n'.format(**row, lines=row["order.lines"].replace('"', '""')) for row in rows
        )
        export.files["o.csv"] = "user,time,order.lines\n" + cells
    else:
        export.files["o.parquet"] = [
            {"user": row["user"], "time": row["time"], "lines": row["order.lines"]} for row in rows
        ]
    item = "order.lines.sku" if form == "csv" else "lines.sku"
    export.mapping["events"] |= {"file": f"o.{form}", "item_id": item, "kind": "purchase", "kind_column": None}
    assert export.load() == ["1:0 2:3 3:3 | "]


def test_a_search_with_its_products_is_one_event(export: Export) -> None:
    rows = tracked(export, "t.jsonl", TRACKED).mapping["events"]
    rows |= {"item_id": ["data.sku", "data.lines.sku", "data.hits.sku"], "query": "data.term", "where": {}}
    export.files["t.jsonl"] = [*TRACKED, TRACKED[1] | {"id": "9", "at": "2026-03-01T11:00:00Z"}]
    *_, last = export.load()
    assert last == "1:0 2:0 3:0 | view 5, search None, click 1, purchase 2"
    dropped = export.report["tables"]["events"]["dropped"]
    assert dropped["further product of a search, which is one event"] == 4


def test_a_search_without_products_is_an_event(export: Export) -> None:
    tracked(export, "t.jsonl", TRACKED).mapping["events"] |= {"query": "data.term", "where": {}}
    export.files["t.jsonl"] = [*TRACKED, TRACKED[1] | {"id": "9", "at": "2026-03-01T11:00:00Z"}]
    assert export.load()[-1] == "1:0 2:0 3:0 | view 5, search None, click 1, purchase 2"


def test_where_leaves_rows_out_before_their_lists_are_compared(export: Export) -> None:
    odd = {
        "id": "8",
        "who": "ann",
        "at": LATER,
        "event": "wish",
        "data": {"lines": [{"sku": "1"}, {"sku": "2"}], "ns": [1]},
    }
    rows = [
        row | {"data": row["data"] | {"ns": [line["n"] for line in row["data"].get("lines", [])]}} for row in TRACKED
    ]
    tracked(export, "t.jsonl", [*rows, odd]).mapping["events"] |= {"quantity": "data.ns", "item_id": "data.lines.sku"}
    export.refused("row 7 .*field data.ns: there are not as many values as in data.lines.sku")
    export.mapping["events"]["where"] = {"event": ["purchase", "refund"]}
    assert export.load() == ["1:0 2:3 3:0 | "]


def test_the_path_that_is_nearest_to_the_one_written_is_named(export: Export) -> None:
    page = {"data": [{"id": "e1", "who": {"id": "ann"}, "sku": "1", "time": FIRST}]}
    export.of_events(json.dumps(page), "page.json", user_id="who.id")
    export.refused(r"in every element of the list 'data'; one row each is sql: .* and row\.who\.id")

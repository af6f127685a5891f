"""Orders that were returned or cancelled: what takes a purchase back, and columns that say so and are not mapped."""

from __future__ import annotations

from typing import Any

import pytest
from export import Export

FIRST, LATER, LAST = "2026-03-01T10:05:00Z", "2026-03-02T10:05:00Z", "2026-04-01T00:00:00Z"


@pytest.mark.parametrize("name", ["orders.jsonl", "orders.parquet"])
def test_the_lines_of_an_order_have_quantities_of_their_own(export: Export, name: str) -> None:
    rows: list[dict[str, Any]] = [
        {"user": "ann", "time": FIRST, "lines": [{"sku": "1", "n": 1}, {"sku": "3", "n": 2}]},
        {"user": "ann", "time": LATER, "lines": [{"sku": "3", "n": -2}]},
        {"user": "zoe", "time": LAST, "lines": [{"sku": "1", "n": 1}]},
    ]
    export.of_events(rows, name, item_id="lines.sku", quantity="lines.n", kind="purchase", kind_column=None)
    export.files["shown.csv"] += f"L2,ann,2026-03-05T10:00:00Z,mug,4,1\n"
    assert export.load() == ["1:3 2:0 3:0 | ", "4:0 | purchase 1"]
    assert export.report["tables"]["events"]["dropped"] == {"takes another event back": 1}


@pytest.mark.parametrize("name", ["shoppers.jsonl", "shoppers.parquet"])
def test_a_row_for_each_shopper_has_lists_of_times_and_kinds(export: Export, name: str) -> None:
    times = ["2026-03-01T09:00:00Z", "2026-03-01T10:00:30Z", FIRST]
    rows: list[dict[str, Any]] = [
        {"user": "ann", "skus": ["5", "2", "2"], "times": times, "kinds": ["view", "click", "purchase"]},
        {"user": "bot", "skus": ["5"], "times": [LAST], "kinds": ["view"]},
        {"user": "zoe", "skus": ["1"], "times": [LAST], "kinds": ["view"]},
    ]
    keys = {"item_id": "skus", "time": "times", "kind_column": "kinds", "where": {"user": {"not": "bot"}}}
    assert export.of_events(rows, name, **keys).load() == ["1:0 2:3 3:0 | view 5"]
    assert export.report["tables"]["events"]["dropped"] == {"not chosen by where": 1}
    del rows[0]["kinds"][2]
    export.refused("row 0.*field kinds: there are not as many values as in skus; give one for each")


def test_a_quantity_that_is_no_number_is_refused(export: Export) -> None:
    """Left out, a return would count as a purchase."""
    rows = f'user,sku,time,n\nann,1,{FIRST},"1,00"\nann,1,{LATER},"-1,00"\nzoe,1,{LAST},1\n'
    export.of_events(rows, "orders.csv", quantity="n", kind="purchase", kind_column=None)
    export.refused(r"orders\.csv row 0 \(line 2\), field n: '1,00' is not a number; correct it, or set decimal")
    export.mapping["events"]["decimal"] = ","
    assert export.load() == ["1:0 2:0 3:0 | "]

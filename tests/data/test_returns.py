"""Orders that were returned or cancelled: what takes a purchase back, and columns that say so and are not mapped."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
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
    export.files["shown.csv"] += "L2,ann,2026-03-05T10:00:00Z,mug,4,1\n"
    assert export.load() == ["1:3 2:0 3:0 | ", "4:0 | purchase 1"]
    assert export.report["tables"]["events"]["dropped"] == {"takes another event back": 1}


@pytest.mark.parametrize(
    ("quantities", "right"),
    [
        ({1: [3, -1], 3: [1, -1]}, "1:3 2:0 3:0"),
        ({1: [3, -1, -2], 3: [2, 1, -1]}, "1:0 2:0 3:3"),
        ({1: [1, -2], 3: [-1, 1]}, "1:0 2:0 3:3"),
        ({1: [0.5, 0.25, -0.75], 3: [1, 2, -2, 1, -1, -1]}, "1:0 2:0 3:0"),
        ({1: [1, -1, 2, -1], 3: []}, "1:3 2:0 3:0"),
    ],
)
def test_a_purchase_of_which_some_is_kept_was_one(
    export: Export, quantities: dict[int, list[float]], right: str
) -> None:
    rows = "user,sku,time,n\n" + "".join(
        f"ann,{sku},2026-03-01T10:{5 + at:02}:00Z,{n}\n"
        for sku, found in quantities.items()
        for at, n in enumerate(found)
    )
    rows += f"ann,6,{FIRST},1\nzoe,1,{LAST},1\n"
    export.of_events(rows, "orders.csv", quantity="n", kind="purchase", kind_column=None)
    export.files["shown.csv"] += "L1,ann,2026-03-01T10:00:00Z,mug,6,4\n"
    assert export.load() == [f"{right} 6:3 | "]


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


SAYS = {  # a column that is not mapped: what it says of an order, what of a cancelled one, and how the report tells it
    "status": ("paid", "cancelled", "says 'cancelled' (1)"),
    "order_status_name": ("Completed", "Refunded by agent", "says 'Refunded by agent' (1)"),
    "phase": ("done", "RETURNED", "says 'RETURNED' (1)"),
    "Bestellstatus": ("Geliefert", "Storniert", "says 'Storniert' (1)"),
    "état": ("livrée", "Remboursée", "says 'Remboursée' (1)"),
    "estado": ("entregado", "devuelto", "says 'devuelto' (1)"),
    "订单状态": ("已完成", "已退款", "says '已退款' (1)"),
    "isRefunded": ("false", "true", "is set ('true', …)"),
    "zurückgesendet": ("nein", "ja", "is set ('ja', …)"),
    "Cancelled at": ("", "2026-03-02 10:00:00", "is set ('2026-03-02 10:00:00', …)"),
    "deleted": ("0", "1", "is set ('1', …)"),
    "refund_amount": ("0.00", "9.90", "is set ('9.90', …)"),
    "qty": ("2", "-2", "is below zero (-2, …)"),
    "Montant": ("9.90", "-9.90", "is below zero (-9.90, …)"),
}
INNOCENT = [
    ("customer_type", "new", "returning"), ("returnable", "yes", "no"), ("query", "mug", "return"),
    ("quantity", "1", "2"), ("return_status", "not returned", "NOT_RETURNED"), ("refund_policy", "14", "30"),
    ("discount_amount", "0.00", "-1.50"), ("Preis (Rabatt)", "0", "-1"), ("review_text", "ok", "-1 for that"),
]  # fmt: skip


def orders(export: Export, name: str, right: str, wrong: str, form: str) -> Export:
    """Three orders, of which the second is no purchase, as one column says."""
    lines = [("ann", "1", FIRST, right), ("ann", "3", LATER, wrong), ("zoe", "1", LAST, right)]
    export.mapping["pairs"]["window_hours"] = 48
    if form == "csv":
        rows: Any = f"user,sku,time,{name}\n" + "".join(",".join(line) + "\n" for line in lines)
    else:
        rows = [dict(zip(("user", "sku", "time", name), line, strict=True)) for line in lines]
    return export.of_events(rows, f"orders.{form}", kind="purchase", kind_column=None)


@pytest.mark.parametrize("name", SAYS)
def test_a_column_of_returns_that_is_not_mapped_is_named(export: Export, name: str) -> None:
    right, wrong, says = SAYS[name]
    form = ("csv", "jsonl", "parquet")[[*SAYS].index(name) % 3]
    assert orders(export, name, right, wrong, form).load() == ["1:3 2:0 3:3 | "]
    (warning,) = export.report["warnings"]
    begin = f"events counts 1 of 3 carts and purchases although {name!r}, which is not mapped, {says}; add "
    assert warning.startswith(begin)
    assert warning.endswith(" to events")
    export.mapping["events"] |= yaml.safe_load(warning.removeprefix(begin).removesuffix(" to events"))
    assert export.load() == ["1:3 2:0 3:0 | "]
    assert export.report["warnings"] == []


@pytest.mark.parametrize("column", INNOCENT, ids=lambda column: column[0])
def test_a_column_that_says_something_else_is_not_named(export: Export, column: tuple[str, str, str]) -> None:
    orders(export, *column, "csv").load()
    assert export.report["warnings"] == []


def test_columns_of_nested_lines_and_of_a_select_are_named_too(export: Export) -> None:
    rows: list[dict[str, Any]] = [
        {"u": {"id": "ann"}, "t": FIRST, "lines": [{"sku": "1", "state": {"name": "ok"}}]},
        {"u": {"id": "ann"}, "t": FIRST, "lines": [{"sku": "3", "state": {"name": "canceled"}}]},
        {"u": {"id": "zoe"}, "t": LAST, "lines": [{"sku": "1", "state": {"name": "ok"}}]},
    ]
    keys = {"user_id": "u.id", "item_id": "lines.sku", "time": "t", "kind": "purchase", "kind_column": None}
    export.of_events(rows, "orders.parquet", **keys).load()
    assert "although 'lines.state.name', which is not mapped, says 'canceled' (1)" in export.report["warnings"][0]
    export.mapping["events"]["where"] = {"lines.state.name": {"not": "canceled"}}
    assert export.load() == ["1:3 2:0 3:0 | "]
    del export.mapping["events"]["where"], export.mapping["events"]["file"]
    lines = "SELECT u, t, unnest(lines) AS line FROM 'orders.parquet'"
    export.mapping["events"] |= {"sql": lines, "item_id": "line.sku"}
    export.load()
    assert "although 'line.state.name', which is not mapped, says 'canceled' (1)" in export.report["warnings"][0]


@pytest.mark.parametrize("word", ["remove-from-cart", "Remove from Cart", "Product Removed", "removeFromCart"])
def test_the_common_words_are_known_in_any_spelling(export: Export, word: str) -> None:
    export.files["events.csv"] = (
        f"user,sku,time,kind\nann,2,{FIRST},cart\nann,2,{FIRST[:-3]}30Z,{word}\nzoe,1,{LAST},view\n"
    )
    assert export.load() == ["1:0 2:0 3:0 | "]
    assert export.report["taken_back"] == 1


def test_a_word_for_taking_back_that_is_not_known_is_named(export: Export) -> None:
    rows = f"user,sku,time,kind\nann,1,{FIRST},click\nann,2,{FIRST},purchase\n"
    rows += f"ann,2,{FIRST[:-3]}30Z,Storniert\nzoe,1,{LAST},view\n"
    export.files["events.csv"] = rows
    assert export.load() == ["1:1 2:3 3:0 | "]
    (warning,) = export.report["warnings"]
    assert "leaves out the kind 'Storniert' (1), which is not mapped" in warning
    assert 'add undo: {"Storniert": "purchase"} to events' in warning
    export.mapping["events"]["undo"] = {"Storniert": "purchase"}
    assert export.load() == ["1:1 2:0 3:0 | "]
    assert export.report["warnings"] == []


def test_a_status_that_takes_back_is_named(export: Export) -> None:
    """Of an order itself, it takes nothing back: `undo: {}`."""
    rows = f"user,sku,time,order_status\nann,2,{FIRST},completed\nann,2,{LATER},Refunded\nzoe,1,{LAST},completed\n"
    export.of_events(rows, "orders.csv", kind_column="order_status", kinds={"completed": "purchase"})
    export.mapping["pairs"]["window_hours"] = 48
    assert export.load() == ["1:0 2:0 3:0 | "]
    assert "'order_status' says 'Refunded' (1), which takes back what was bought before" in export.report["warnings"][0]
    export.mapping["events"]["undo"] = {}
    assert export.load() == ["1:0 2:3 3:0 | "]
    assert export.report["warnings"] == []


def test_of_a_row_below_zero_one_column_is_named(export: Export) -> None:
    """`where` by its status would leave the return out that `quantity` takes for one."""
    rows = f"user,sku,time,state,total,qty\nann,1,{FIRST},ok,9,1\nann,3,{LATER},refunded,-9,-1\nzoe,1,{LAST},ok,9,1\n"
    export.of_events(rows, "orders.csv", kind="purchase", kind_column=None).load()
    (warning,) = export.report["warnings"]
    assert warning.endswith('add quantity: "qty" to events')

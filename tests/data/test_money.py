"""Prices as shops write them: every notation, the decimal sign of a column, and what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_tables import Shop, write_table

from reshelf.data.schema import Item


def imported(
    shop: Shop, prices: list[object], ending: str = "csv", **spec: str
) -> tuple[list[Item], dict[str, object]]:
    """The items whose prices are these, and what the report says of the items table."""
    rows = shop.tables["items"]
    rows += [{**rows[0], "sku": f"{n:03d}"} for n in range(len(rows), len(prices))]
    for n, row in enumerate(rows):
        row["cost"] = prices[n] if n < len(prices) else None
    shop.mapping["items"] |= spec
    items = shop.load(ending).items
    facts = json.loads((shop.out / "report.json").read_text(encoding="utf-8"))["tables"]["items"]
    return [items[row["sku"]] for row in rows[: len(prices)]], facts


READ = [
    ("9.66 USD", 9.66, "USD"), ("6,46 $", 6.46, None), ("€12,99", 12.99, "EUR"), ("1,299.00", 1299.0, None),
    ("¥199", 199.0, None), ("199元", 199.0, "CNY"), ("US$ 9.66", 9.66, "USD"), ("Rs. 1,29,900", 129_900.0, "INR"),
    ("1 299,00 zł", 1299.0, "PLN"), ("１２９９．００", 1299.0, None), ("￥１９９", 199.0, None),
    ("1\u202f299,00\u00a0€", 1299.0, "EUR"), ("CHF 1'299.50", 1299.5, "CHF"), ("1’299.50 Fr.", 1299.5, "CHF"),
    ("199,-", 199.0, None), ("EUR € 5", 5.0, "EUR"), ("12,50 Kč", 12.5, "CZK"), ("499 kr.", 499.0, None),
    ("Rp 1.299.000", 1_299_000.0, "IDR"), ("R$ 9,90", 9.9, "BRL"), (".99", 0.99, None), ("1e3", 1000.0, None),
]  # fmt: skip
UNREAD = ["from 9.99", "9.99-12.99", "12.99/kg", "2 for 5.00", "1,2,3", "12,99,", "$", "call us", "1 2", "9.99 XXX"]


def test_a_price_is_read_with_its_currency_or_counted(shop: Shop) -> None:
    """All in one column: each of these can be read in one way only, or in none."""
    items, facts = imported(shop, [*(written for written, *_ in READ), *UNREAD, "n/a", ""])
    assert [(item.price, item.currency) for item in items[: len(READ)]] == [(a, c) for _, a, c in READ]
    assert [(item.price, item.currency) for item in items[len(READ) :]] == [(None, None)] * (len(UNREAD) + 2)
    what = "price is no number, now missing"
    assert facts["repaired"] == {what: len(UNREAD)}
    assert len(facts["examples"][what]) == 3
    assert set(facts["examples"][what]) <= set(UNREAD)


@pytest.mark.parametrize(
    ("column", "amounts"),
    [
        (["1.299", "12,99"], [1299.0, 12.99]),
        (["1.299", "12.9"], [1.299, 12.9]),
        (["1,299", "12,99"], [1.299, 12.99]),
        (["1.299", "1.299.000"], [1299.0, 1_299_000.0]),
        (["Rs. 1,299", "Rs. 499"], [1299.0, 499.0]),
    ],
)
def test_the_column_as_a_whole_says_what_the_decimal_sign_is(
    shop: Shop, column: list[object], amounts: list[float]
) -> None:
    items, facts = imported(shop, column)
    assert [item.price for item in items] == amounts
    assert facts["repaired"] == {}


@pytest.mark.parametrize("column", [["1.299", "499"], ["1.299", "12,99", "12.99"], ["1,299", "12,99", "12.99"]])
def test_what_the_column_does_not_say_is_missing_until_the_mapping_says_it(shop: Shop, column: list[object]) -> None:
    items, facts = imported(shop, column)
    what = "price may have thousands or decimals, now missing: set items.decimal"
    assert items[0].price is None
    assert items[1].price is not None
    assert facts["repaired"] == {what: 1}
    assert facts["examples"] == {what: [column[0]]}
    items, _ = imported(shop, [column[0]], decimal=",")
    assert items[0].price == (1299.0 if column[0] == "1.299" else 1.299)


def test_what_the_mapping_says_is_never_bent(shop: Shop) -> None:
    items, facts = imported(shop, ["12.99", "12,99", "1.299"], decimal=",")
    assert [item.price for item in items] == [None, 12.99, 1299.0]
    assert facts["examples"] == {"price is no number, now missing": ["12.99"]}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_numbers_that_are_numbers_are_left_alone(shop: Shop, ending: str) -> None:
    items, _ = imported(shop, [1.299, 12.0, 1234.5], ending)
    assert [item.price for item in items] == [1.299, 12.0, 1234.5]


@given(amounts=st.lists(st.integers(0, 999_999_999), min_size=2, max_size=40), comma=st.booleans())
@settings(max_examples=4, deadline=None)
def test_either_notation_gives_the_same_amounts(
    amounts: list[int], comma: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With two decimals every price settles the sign; the two notations must give the same numbers."""
    shop = Shop(tmp_path_factory.mktemp("money"))
    swap = str.maketrans(",.", ".,") if comma else {}
    items, _ = imported(shop, [f"{cents / 100:,.2f}".translate(swap) for cents in amounts], max_price="1e12")
    assert [item.price for item in items] == [cents / 100 for cents in amounts]


def test_currencies_are_not_compared_with_each_other(shop: Shop) -> None:
    """Price levels are fifths among items of one category and currency."""
    items, _ = imported(shop, [f"{n}.50 USD" if n % 4 < 2 else f"{n}00.5 JPY" for n in range(40)])
    assert {(item.currency, item.price_level) for item in items} >= {(c, k) for c in ("USD", "JPY") for k in (1, 5)}


def test_shown_prices_are_read_the_same_way(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    write_table(
        tmp_path / "pairs.csv",
        [
            {"id": f"q{n}", "who": "u1", "ts": (150 + n) * 86_400, "sku": sku, "paid": paid, "hit": hit}
            for n in range(10)
            for sku, paid, hit in (("001", "€1.299,50", 3), ("003", "gratis", 0))
        ],
    )
    del shop.mapping["lists"]
    shop.tables.pop("lists")
    shop.mapping["pairs"] = [
        {"file": "pairs.csv", "list_id": "id", "user_id": "who", "time": "ts", "item_id": "sku", "price": "paid",
         "label": "hit"}
    ]  # fmt: skip
    shop.mapping["split"] = {"by": "time"}
    data = shop.load("csv")
    assert data.lists["train"][0].prices == (1299.5, 8.0), "the catalogue's stands in"
    facts = json.loads((shop.out / "report.json").read_text(encoding="utf-8"))["tables"]["pairs.0"]
    assert facts["examples"] == {"price is no number, now missing": ["gratis"]}

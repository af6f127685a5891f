"""The catalogue of an import: rows of an items table become `Item`s, and what cannot be right becomes missing.

    catalogue = read_catalogue(work, mapping, folder / "items.parquet")      # .ids, .prices, .categories by item code

Errors: a missing id, an id that comes twice (unless `duplicates` or `valid_from` says what that means), an id that lost
digits, a column that is not there.
Repairs, counted by reason: a missing title (the item is kept as "untitled"), a price that is negative, absurdly high
or no number, stars outside 0 to 5, a negative number of ratings, mark-up in a description.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.dataset_folder import ITEM_SCHEMA
from reshelf.data.importing.casts import INEXACT, Column, path_of
from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.mapping import Columns, ItemsTable, Mapping, Table
from reshelf.data.importing.money import Money, read_money
from reshelf.data.importing.tables import Source, names_of, open_table, reading
from reshelf.data.price_levels import PriceLevels
from reshelf.data.signals.event_log import NO_TIME, Int64, lower_bound

UNTITLED = "untitled"
_ITEMS_AT_ONCE = 8192
_HIDDEN = re.compile(r"<(style|script)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_TEXTS = ("brand", "currency", "attribute_text", "description", "image")
_NUMBERS = {"price": (0.0, None), "rating": (0.0, 5.0), "rating_count": (0.0, 2.0**53)}


@dataclass(frozen=True)
class Catalogue:
    """What lists are made of: the items themselves are in a file only."""

    file: Path
    """Parquet, one `Item` per row; the row is the item's code."""
    ids: pa.StringArray
    prices: npt.NDArray[np.float64]
    """NaN where missing."""
    categories: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.ids)


def read_catalogue(work: Work, mapping: Mapping, file: Path) -> Catalogue:
    """Write the items with their price levels. Leaves the tables `item` (id, code) and, where prices have dates,
    `price` (item, since, price) in the database.

    Raises:
        InputError: names file, row and field.
    """
    spec = mapping.items
    work.task("reading items")
    columns = [getattr(spec, n) for n in ("category", "price", "rating", "rating_count", "valid_from", *_TEXTS)]
    wanted = names_of(spec.item_id, spec.title, *columns, list(spec.attributes.values()))
    source = open_table(work, spec, "items", wanted)
    reading(
        work, source, f"CREATE TABLE item_row AS SELECT {', '.join(_selected(source, spec))} FROM {source.relation}"
    )
    source.count("item_row")
    field = names_of(spec.item_id)[0]
    source.forbid(
        "item_row WHERE id IS NULL",
        field,
        f"the id is missing; give one, or leave the row out with where: {{{field}: {{not: null}}}}",
    )
    check_exact(source, spec.item_id, "item_row", "id")
    _repair_numbers(work, spec)
    _one_row_each(work, source, spec, field)
    work.run("CREATE TABLE item AS SELECT id, row_number() OVER (ORDER BY row) - 1 AS code FROM item_row")
    catalogue = _write(work, spec, file)
    work.report.keep("items", len(catalogue))
    work.run("DROP TABLE item_row")
    _read_parents(work, mapping)
    return catalogue


@dataclass(frozen=True)
class DatedPrices:
    """Prices over time, those of one item after the other, oldest first."""

    starts: Int64
    """int64 [items + 1]: where the prices of each item's code begin."""
    since: Int64
    """Microseconds since 1970 UTC."""
    price: npt.NDArray[np.float64]
    """Infinite where the catalogue had none."""

    def at(self, item: npt.NDArray[np.int32], time: Int64) -> npt.NDArray[np.float64]:
        """Price of every item at a time, float64 [N]: infinite before its first, NaN where it is the catalogue's only
        one, the item has no dates or the time is `NO_TIME`."""
        low, high = self.starts[item], self.starts[item + 1]
        last = lower_bound(self.since, low, high, time + 1) - 1
        price = np.where(last >= low, self.price[np.maximum(last, 0)], np.inf)
        only = (last >= low) & (high - low == 1)
        return np.where((low < high) & ~only & (time != NO_TIME), price, np.nan)


def read_dated_prices(work: Work, mapping: Mapping, items: int) -> DatedPrices | None:
    """What `read_catalogue` found, each price where it begins; None where none has a date."""
    if not mapping.items.valid_from:
        return None
    found = work.arrays(
        """SELECT code, since, coalesce(price, 'inf'::DOUBLE) AS price FROM price JOIN item USING (id)
        WINDOW w AS (PARTITION BY code ORDER BY since)
        QUALIFY row_number() OVER w = 1 OR price IS DISTINCT FROM lag(price) OVER w ORDER BY code, since"""
    )
    starts = np.searchsorted(found["code"], np.arange(items + 1)).astype(np.int64)
    return DatedPrices(starts, found["since"].astype(np.int64), found["price"]) if len(found["code"]) else None


def check_exact(source: Source, mapped: Columns | None, table: str, column: str, where: str = "true") -> None:
    """No id in a column of a table of the database may have lost digits, or be a whole JSON value.

    Args:
        mapped: what the ids were read from.

    Raises:
        InputError: names file, row and field.
    """
    field = names_of(mapped)[0]
    ids = f"SELECT {column}, min(row) FROM {table} WHERE {where} GROUP BY {column}"
    nested = "(regexp_matches(id, '^\\s*[\\[{]') AND json_valid(id))"
    inexact = f"regexp_full_match(id, {quoted(INEXACT)})"
    for text, row, is_nested in source.work.fetch(
        f"SELECT *, {nested} AS nested FROM ({ids}) t(id, row) WHERE nested OR {inexact} "
        "ORDER BY nested DESC, row LIMIT 1"
    ):
        if is_nested:
            source.fail(row, field, f"{text[:60]} is no id; map a part of it ({field}.part), or unnest it with sql")
        bits = 53 if abs(float(text)) >= 2**53 else 24
        what = (
            f"the id {text} is a floating-point number above 2^{bits}, which has lost digits and merges different ids"
        )
        source.fail(row, field, f"{what}; export it as a whole number or as text")


def _selected(source: Source, spec: ItemsTable) -> Iterator[str]:
    yield "row"
    yield f"{source.id(spec.item_id)} AS id"
    for name in ("title", *_TEXTS):
        yield f"{source.text(getattr(spec, name))} AS {name}"
    category = "NULL::VARCHAR[]"
    if spec.category:
        column = source.column(spec.category)
        if spec.category_paths and not column.is_list:
            column = Column(f"split_part({column.text}, {quoted(spec.category_paths)}, 1)", "VARCHAR")
        category = path_of(column, spec.category_separator)
    yield f"{category} AS category"
    price = read_money(source, "price", spec.price) if spec.price else Money()
    yield f"{price.amount} AS price"
    yield f"{price.currency} AS price_currency"
    for name in _NUMBERS:
        column = getattr(spec, name)
        if name != "price":
            yield f"{source.number(column)} AS {name}"
            yield f"{source.no_number(column)} AS bad_{name}"
        yield f"{source.column(column).text if column else 'CAST(NULL AS VARCHAR)'} AS written_{name}"
    yield f"{source.times(spec.valid_from, 'since')['since']} AS since"
    values = ", ".join(source.text(column) for column in spec.attributes.values())
    yield f"CAST([{values}] AS VARCHAR[]) AS attributes"


def _repair_numbers(work: Work, spec: ItemsTable) -> None:
    for name, (low, most) in _NUMBERS.items():
        high = spec.max_price if most is None else most
        unread = [(f"bad_{name}", "is no number")] if name != "price" else []
        if name == "rating_count":
            unread.append((f"{name} <> floor({name}) AND NOT isnan({name})", "is no whole number"))
        for bad, what in (
            *unread,
            (f"{name} < {low}", f"below {low:g}"),
            (f"{name} > {high} AND NOT isnan({name})", f"above {high:g}"),
        ):
            found = work.fetch(f"SELECT written_{name} FROM item_row WHERE {bad} ORDER BY row")
            work.report.repair("items", f"{name} {what}, now missing", len(found), (text for (text,) in found))
            work.run(f"UPDATE item_row SET {name} = NULL WHERE {bad}")
        work.run(f"UPDATE item_row SET {name} = NULL WHERE isnan({name})")


def _one_row_each(work: Work, source: Source, spec: ItemsTable, field: str) -> None:
    """Leave one row per id."""
    again = "SELECT id FROM item_row GROUP BY id HAVING count(*) > 1"
    if spec.valid_from:
        work.run(
            "CREATE TABLE price AS SELECT id, since, arg_max(price, row) AS price FROM item_row "
            "WHERE since IS NOT NULL GROUP BY id, since"
        )
        last = "max(struct_pack(since := coalesce(since, -9223372036854775808), row := row)).row"
        reason = "older price of the same item"
    else:
        last = "max(row)" if spec.duplicates == "last" else "min(row)"
        reason = "item id seen before"
    twice = work.fetch(
        "SELECT row, first, id FROM (SELECT row, id, min(row) OVER (PARTITION BY id) AS first FROM item_row "
        f"WHERE id IN ({again})) WHERE row > first ORDER BY row LIMIT 1"
    )
    if twice and spec.duplicates == "error" and not spec.valid_from:
        row, first, item_id = twice[0]
        what = f"item {item_id!r} is there already ({source.place(first)}); remove one, or set items.duplicates: first"
        source.fail(row, field, what)
    before = work.number("SELECT count(*) FROM item_row")
    if twice:
        work.run(f"DELETE FROM item_row WHERE row NOT IN (SELECT {last} FROM item_row GROUP BY id)")
    work.report.drop("items", reason, before - work.number("SELECT count(*) FROM item_row"))


def _write(work: Work, spec: ItemsTable, file: Path) -> Catalogue:
    """The rows of `item_row` as items, some thousand at a time."""
    levels = PriceLevels((tuple(path), currency, price) for path, currency, price in _priced(work, spec))
    ids: list[str] = []
    prices: list[float | None] = []
    categories: list[tuple[str, ...]] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    with pq.ParquetWriter(file, ITEM_SCHEMA, compression="zstd") as writer:
        for batch in work.base.sql("FROM item_row ORDER BY row").to_arrow_reader(_ITEMS_AT_ONCE):
            columns = _columns(batch.to_pydict(), spec, work, levels)
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=ITEM_SCHEMA))
            ids += columns["item_id"]
            prices += columns["price"]
            categories += [known.setdefault(category, category) for category in columns["category"]]
    return Catalogue(file, pa.array(ids, pa.string()), np.array(prices, dtype=np.float64), categories)


def _priced(work: Work, spec: ItemsTable) -> Iterator[tuple[list[str], str | None, float]]:
    """Category, currency and price of the items that have one."""
    code = quoted(spec.currency_code) if spec.currency_code else "NULL"
    found = work.base.execute(
        f"SELECT coalesce(category, []), coalesce(currency, price_currency, {code}), price FROM item_row "
        "WHERE price IS NOT NULL ORDER BY row"
    )
    while rows := found.fetchmany(_ITEMS_AT_ONCE):
        yield from rows


def _columns(rows: dict[str, list[Any]], spec: ItemsTable, work: Work, levels: PriceLevels) -> dict[str, list[Any]]:
    """The fields of some `Item`s, by name."""
    titles, plain = (
        [_clean(text) for text in rows["title"]],
        [text and plain_text(text) for text in rows["description"]],
    )
    for item, title, text, written in zip(rows["id"], titles, plain, rows["description"]):
        if title is None:
            work.report.repair("items", "title missing, now 'untitled'", 1, [f"item {item}"])
        if text != written:
            work.report.repair("items", "mark-up taken out of the description", 1, [written])
    prices, categories = rows["price"], [tuple(path or ()) for path in rows["category"]]
    currencies = [
        currency or ((of_price or spec.currency_code) if price is not None else None)
        for currency, of_price, price in zip(rows["currency"], rows["price_currency"], prices)
    ]
    named = [
        dict(zip(spec.attributes, values or ())) | _split_attributes(text, spec)
        for values, text in zip(rows["attributes"], rows["attribute_text"])
    ]
    return {
        "item_id": rows["id"],
        "title": [title or UNTITLED for title in titles],
        "category": categories,
        "brand": [_clean(brand) for brand in rows["brand"]],
        "price": prices,
        "currency": currencies,
        "price_level": list(map(levels.level, categories, currencies, prices)),
        "rating": rows["rating"],
        "rating_count": [None if count is None else int(count) for count in rows["rating_count"]],
        "attributes": [[{"name": n, "value": value} for n, value in of_item.items() if value] for of_item in named],
        "description": [text or None for text in plain],
        "image": rows["image"],
    }


def plain_text(text: str) -> str:
    """Text without HTML tags, style blocks and entities, white space collapsed."""
    if "<" in text:
        text = _TAG.sub(" ", _HIDDEN.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    return " ".join(text.split())


def _clean(text: str | None) -> str | None:
    return (" ".join(text.split()) or None) if text else None


def _split_attributes(text: str | None, spec: ItemsTable) -> dict[str, str]:
    between, within = spec.attribute_separators
    pairs = (part.split(within, 1) for part in (text or "").split(between) if within in part)
    return {name.strip(): value.strip() for name, value in pairs if name.strip()}


def _read_small(work: Work, spec: Table, part: str, **columns: str) -> tuple[Source, int]:
    """The table `part` of ids and, where a column is `text`, of text, with its `row`; and how many rows it has."""
    source = open_table(work, spec, part, list(columns.values()))
    read = {name: source.text(column) if name == "text" else source.id(column) for name, column in columns.items()}
    selected = ", ".join(f"{sql} AS {name}" for name, sql in read.items())
    reading(work, source, f"CREATE TABLE {part} AS SELECT row, {selected} FROM {source.relation}")
    return source, source.count(part)


def _read_parents(work: Work, mapping: Mapping) -> None:
    """The table `known` (id, code): ids as tables may write them, and the item each stands for."""
    work.run("CREATE TABLE known AS SELECT id, CAST(code AS INTEGER) AS code FROM item")
    spec = mapping.parents
    if spec is None:
        return
    source, count = _read_small(work, spec, "parents", id=spec.item_id, parent=spec.parent_id)
    check_exact(source, spec.item_id, "parents", "id")
    work.run(
        "CREATE TABLE variant AS SELECT p.id, min(item.code) AS code FROM parents p JOIN item ON item.id = p.parent "
        "GROUP BY p.id"
    )
    kept = work.number("SELECT count(*) FROM parents WHERE id IN (SELECT id FROM variant)")
    work.report.keep("parents", kept)
    work.report.drop("parents", "parent not in the catalogue", count - kept)
    work.run("DELETE FROM known WHERE id IN (SELECT id FROM variant)")
    work.run("INSERT INTO known SELECT id, code FROM variant")


def read_queries(work: Work, mapping: Mapping) -> bool:
    """The table `queries` (id, text); False without one.

    Raises:
        InputError: names file, row and field.
    """
    spec = mapping.queries
    if spec is None:
        return False
    source, count = _read_small(work, spec, "queries", id=spec.query_id, text=spec.query)
    work.report.keep("queries", count)
    for name, what in ((spec.query_id, "id"), (spec.query, "text")):
        source.forbid(f"queries WHERE {what} IS NULL", name, f"the {what} is missing")
    for query_id, row in work.fetch(
        "SELECT id, max(row) FROM queries GROUP BY id HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
    ):
        source.fail(row, spec.query_id, f"query {query_id!r} is there already; query ids must be unique")
    return True


@dataclass(frozen=True)
class QueryMembers:
    """Which items belong to which query."""

    texts: list[str]
    items: list[Any]
    """Codes of the items of each query, int32 arrays."""


def read_item_queries(work: Work, mapping: Mapping, has_texts: bool) -> QueryMembers | None:
    """The items of every query; None without such a table.

    Raises:
        InputError: names file, row and field.
    """
    spec = mapping.item_queries
    if spec is None:
        return None
    source, count = _read_small(work, spec, "item_queries", item=spec.item_id, query=spec.query_id)
    if has_texts:
        lost = (
            "SELECT query, row FROM item_queries link WHERE query NOT IN (SELECT id FROM queries) ORDER BY row LIMIT 1"
        )
        for query_id, row in work.fetch(lost):
            source.fail(row, spec.query_id, f"query {query_id!r} is not in the queries table")
    table = work.arrays(
        "SELECT link.query, known.code FROM item_queries link JOIN known ON known.id = link.item ORDER BY link.row"
    )
    work.report.keep("item_queries", len(table["code"]))
    work.report.drop("item_queries", "item not in the catalogue", count - len(table["code"]))
    members: dict[str, list[int]] = {}
    for query_id, code in zip(table["query"].tolist(), table["code"].tolist()):
        members.setdefault(query_id, []).append(code)
    texts = dict(work.fetch("SELECT id, text FROM queries")) if has_texts else {}
    return QueryMembers([texts.get(query_id, query_id) for query_id in members], list(members.values()))

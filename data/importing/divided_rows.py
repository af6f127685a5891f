"""A row with several products (an order with its lines, a shopper with all they did) becomes a row for each of them.

source, several = one_row_each(source, ["product", "lines.sku"])   # lines.quantity and lines.price go along
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reshelf.data.importing.casts import Column, id_of
from reshelf.data.importing.tables import Source, chosen

_SOME = 10_000
"""Rows that are looked at for lists in JSON."""
_MOST = 1 << 24
"""Products of one row, at most: the number of a divided row is that of the whole one times this, plus its place."""


def one_row_each(source: Source, items: Sequence[str]) -> tuple[Source, bool]:
    """The source with one product a row and its place in the list as `place`, and whether it had lists of them.

    Other lists are divided with the products; a value that is no list counts for all of them. A row without products
    stays one row: it may be a search, and else is counted.

    Args:
        items: columns of products, of which the first that has some counts.

    Raises:
        InputError: a list beside the products has another length.
    """
    lists = {name: sql for name in source.columns if (sql := _list(source, name, items))}
    if lists.keys().isdisjoint(items):
        return source, False
    products, spec = _how_many(source, lists, items), source.spec
    plain = replace(spec, where={name: value for name, value in spec.where.items() if name not in lists})
    rows = chosen(source.everything, source.columns, plain, source.part)
    left_out = chosen(source.everything, source.columns, plain, source.part, others=True)
    _check_lengths(source, rows, lists, items, products)
    inner, outer = [f"unnest(range(greatest({products}, 1))) AS place"], []
    for number, (name, column) in enumerate(source.columns.items()):
        one = column.sql
        if name in lists:
            one = f"part_{number}"
            inner.append(f"unnest({lists[name]}[:greatest({products}, 1)]) AS {one}")
        if name in lists and column.type == "JSON" and name not in items:
            one = f"CASE WHEN json_type({column.sql}) = 'ARRAY' THEN {one} ELSE {column.sql} END"
        if one != f"part_{number}":
            inner.append(column.sql)
        outer.append(f"{one} AS {column.sql}")

    def divided(whole: str) -> str:
        inside = f"SELECT row, {', '.join(inner)} FROM {whole}"
        return f"(SELECT row * {_MOST} + place AS row, place, {', '.join(outer)} FROM ({inside}))"

    kinds = {name: Column(column.sql, column.type.removesuffix("[]")) for name, column in source.columns.items()}
    listed = replace(spec, where={name: value for name, value in spec.where.items() if name in lists})
    relation = chosen(divided(rows), kinds, listed, source.part)
    if listed.where:
        others = chosen(divided(rows), kinds, listed, source.part, others=True)
        left_out = f"(SELECT row FROM {left_out} UNION ALL SELECT row FROM {others})"
    return replace(source, relation=relation, left_out=left_out, columns=kinds, step=_MOST), True


def _how_many(source: Source, lists: dict[str, str], items: Sequence[str]) -> str:
    """SQL of the number of a row's products: of the first column that has some."""
    counts = []
    for name in items:
        one = f"CASE WHEN {id_of(source.column(name))} <> '' THEN 1 END"
        counts.append(f"nullif(len({lists[name]}), 0)" if name in lists else one)
    return f"coalesce({', '.join(counts)}, 0)"


def _check_lengths(source: Source, rows: str, lists: dict[str, str], items: Sequence[str], products: str) -> None:
    """Lists beside the products are as long, but for parts of the same objects, which are so anyway."""
    together = {name.rpartition(".")[0] for name in items if name in lists} - {""}
    for name in (name for name in lists.keys() - set(items) if name.rpartition(".")[0] not in together):
        what = f"there are not as many values as in {items[0]}; give one for each, or take the row apart with sql"
        source.forbid(f"{rows} WHERE len({lists[name]}) <> {products}", name, what)


def _list(source: Source, name: str, items: Sequence[str]) -> str | None:
    """SQL of a column as lists, where it holds some; in JSON a value may be a list in one row and none in the next."""
    column = source.column(name)
    if column.is_list:
        return column.sql
    some = f"SELECT {column.sql} AS value FROM {source.everything} LIMIT {_SOME}"
    plain = "json_type(value) = 'ARRAY' AND coalesce(json_type(value, '$[0]') NOT IN ('OBJECT', 'ARRAY'), true)"
    if column.type != "JSON" or not source.work.number(f"SELECT count(*) FROM ({some}) WHERE {plain}"):
        return None
    one = f"WHEN json_type({column.sql}) <> 'NULL' THEN [{column.sql}] " if name in items else ""
    return f"CASE WHEN json_type({column.sql}) = 'ARRAY' THEN CAST({column.sql} AS JSON[]) {one}END"

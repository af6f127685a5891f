"""A row with several products (an order with its lines, a shopper with all they did) becomes a row for each of them.

source, several = one_row_each(source, "lines.sku")      # lines.quantity and lines.price go along, place by place
"""

from __future__ import annotations

from dataclasses import replace

from reshelf.data.importing.casts import Column
from reshelf.data.importing.tables import Source, chosen

_SOME = 10_000
"""Rows that are looked at for lists in JSON."""
_MOST = 1 << 20
"""Products of one row, at most: the number of a divided row is that of the whole one times this, plus its place."""
_PART = "part_{}"


def one_row_each(source: Source, item: str) -> tuple[Source, bool]:
    """The source with one product a row and its place in the list as `place`, and whether it had lists of them.

    Other lists are divided with the products; a value that is no list counts for all of them.

    Raises:
        InputError: a list beside the products has another length.
    """
    lists = {name: sql for name in source.columns if (sql := _list(source, name, item))}
    if item not in lists:
        return source, False
    for name in lists.keys() - {item}:
        what = f"there are not as many values as in {item}; give one for each, or take the row apart with sql"
        source.forbid(f"{source.everything} WHERE len({lists[name]}) <> len({lists[item]})", name, what)
    inner, outer = [], []
    for name, column in source.columns.items():
        if name not in lists:
            inner.append(column.sql)
            outer.append(column.sql)
            continue
        inner.append(f"unnest({lists[name]}) AS {_PART.format(len(inner))}")
        one = _PART.format(len(inner) - 1)
        if column.type == "JSON" and name != item:
            inner.append(column.sql)
            one = f"CASE WHEN json_type({column.sql}) = 'ARRAY' THEN {one} ELSE {column.sql} END"
        outer.append(f"{one} AS {column.sql}")
    inner.append(f"generate_subscripts({lists[item]}, 1) - 1 AS place")
    inside = f"SELECT row, {', '.join(inner)} FROM {source.everything}"
    everything = f"(SELECT row * {_MOST} + place AS row, place, {', '.join(outer)} FROM ({inside}))"
    kinds = {name: Column(column.sql, column.type.removesuffix("[]")) for name, column in source.columns.items()}
    relation = chosen(everything, kinds, source.spec, source.part)
    return replace(source, relation=relation, everything=everything, columns=kinds, step=_MOST), True


def _list(source: Source, name: str, item: str) -> str | None:
    """SQL of a column as lists, where it holds some; in JSON a value may be a list in one row and none in the next."""
    column = source.column(name)
    if column.is_list:
        return column.sql
    some = f"SELECT {column.sql} AS value FROM {source.everything} LIMIT {_SOME}"
    plain = "json_type(value) = 'ARRAY' AND coalesce(json_type(value, '$[0]') NOT IN ('OBJECT', 'ARRAY'), true)"
    if column.type != "JSON" or not source.work.number(f"SELECT count(*) FROM ({some}) WHERE {plain}"):
        return None
    one = f"WHEN {column.sql} IS NOT NULL THEN [{column.sql}] " if name == item else ""
    return f"CASE WHEN json_type({column.sql}) = 'ARRAY' THEN CAST({column.sql} AS JSON[]) {one}END"

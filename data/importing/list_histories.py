"""Histories that lists bring with them, as arrays.

histories = read_histories(work, mapping, sources)
histories.starts[number]     # where the history of that list begins in histories.events, oldest first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.importing.casts import Column, id_of, list_of
from reshelf.data.importing.database import Arrays, Work, quoted
from reshelf.data.importing.events import KINDS, SEARCH
from reshelf.data.importing.mapping import ListColumns, ListsTable, Mapping
from reshelf.data.importing.shown import parts_of
from reshelf.data.importing.tables import Source, reading
from reshelf.data.importing.times import is_whole_day, time_of
from reshelf.data.signals.event_log import Int64

_TYPES = {"item": np.int32, "kind": np.int8, "key": np.int64, "value": np.float64, "query": np.int32}


@dataclass(frozen=True)
class ListHistories:
    """Events of all such histories, one list after the other."""

    events: Arrays
    """`item` (-1 for a search), `kind`, `key` (`NO_TIME` where missing), `value`, `query`."""
    starts: Int64
    """int64 [N + 1]: where the history of each list of `head` begins."""
    parts: frozenset[int]
    """The tables whose lists bring their history."""


def read_histories(work: Work, mapping: Mapping, sources: Sequence[Source]) -> ListHistories:
    """Read the histories of the lists in `head`.

    Raises:
        InputError: names file, row and field.
    """
    columns = "number BIGINT, n INTEGER, item VARCHAR, kind TINYINT, key BIGINT, value DOUBLE, query VARCHAR"
    work.run(f"CREATE TABLE list_history ({columns})")
    parts = []
    for number, (_, spec) in enumerate(parts_of(mapping)):
        if spec.history:
            parts.append(number)
            _stage(work, sources[number], spec, number)
    total = work.number("SELECT max(number) + 1 FROM head")
    if not parts:
        empty = {name: np.zeros(0, dtype=kind) for name, kind in _TYPES.items()}
        return ListHistories(empty, np.zeros(total + 2, dtype=np.int64), frozenset())
    work.run(
        "INSERT INTO query BY NAME SELECT query AS text, CAST((SELECT count(*) FROM query) + row_number() OVER (ORDER "
        "BY query) - 1 AS INTEGER) AS code FROM (SELECT DISTINCT query FROM list_history WHERE query NOT IN (SELECT "
        "text FROM query))"
    )
    arrays = work.spool(
        "histories",
        "SELECT g.number, coalesce(k.code, -1) AS item, g.kind, coalesce(g.key, -9223372036854775808) AS key, "
        "coalesce(g.value, 'nan'::DOUBLE) AS value, coalesce(q.code, -1) AS query FROM list_history g LEFT JOIN known "
        "k ON k.id = g.item LEFT JOIN query q ON q.text = g.query ORDER BY g.number, g.n",
        {"number": np.int64} | _TYPES,
    )
    numbers = arrays.pop("number")
    starts = np.searchsorted(numbers, np.arange(total + 2)).astype(np.int64)
    return ListHistories(arrays, starts, frozenset(parts))


def _stage(work: Work, source: Source, spec: ListColumns, number: int) -> None:
    column = source.column(str(spec.history))
    separator = spec.list_separator if isinstance(spec, ListsTable) else "|"
    if column.is_list and column.type.startswith("STRUCT"):
        values = f"list_transform({column.sql}, lambda e: CAST(to_json(e) AS VARCHAR))"
    else:
        values = list_of(column, separator)
    times = "CAST([] AS VARCHAR[])"
    mismatch = "false"
    if spec.history_times:
        raw = source.column(spec.history_times)
        times = f"list_transform({raw.sql}, lambda e: CAST(e AS VARCHAR))" if raw.is_list else list_of(raw, separator)
        mismatch = "coalesce(len(times), 0) <> coalesce(len(h), 0)"
    work.run("DROP TABLE IF EXISTS raw_history")
    reading(
        work, source,
        f"CREATE TABLE raw_history AS SELECT row, {values} AS h, {times} AS times FROM {source.relation} "
        f"WHERE row IN (SELECT row FROM head WHERE part = {number})",
        again=True,
    )  # fmt: skip
    counts = "coalesce(len(times), 0), coalesce(len(h), 0)"
    for row, n_times, n in work.fetch(f"SELECT row, {counts} FROM raw_history WHERE {mismatch} ORDER BY row LIMIT 1"):
        source.fail(row, str(spec.history_times), f"{n_times} times for {n} history items")
    text = Column("e", "VARCHAR")
    field = {name: f"CASE WHEN o THEN j ->> '{name}' END" for name in ("kind", "item_id", "time", "query", "value")}
    moment = Column("moment", "VARCHAR")
    time, zone = time_of(moment, spec), quoted(spec.timezone or "UTC")
    day_end = f"epoch_us(timezone({zone}, timezone({zone}, make_timestamptz({time})) + INTERVAL 1 DAY)) - 1"
    kinds = " ".join(f"WHEN '{kind.value}' THEN {code}" for code, kind in enumerate(KINDS))
    work.run("DROP TABLE IF EXISTS history_row")
    work.run(
        f"""CREATE TABLE history_row AS SELECT row, n, CASE kind {kinds} END AS kind, kind AS raw_kind, item, moment,
            {time} AS key, CASE WHEN {is_whole_day(moment, spec)} THEN {day_end} END AS day_end,
            try_cast(value AS DOUBLE) AS value, query FROM (
            SELECT row, n, coalesce({field["kind"]}, 'purchase') AS kind,
                CASE WHEN o THEN {id_of(Column("(j ->> 'item_id')", "VARCHAR"))} ELSE {id_of(text)} END AS item,
                coalesce(t, {field["time"]}) AS moment, {field["query"]} AS query, {field["value"]} AS value FROM (
                SELECT row, n, e, t, starts_with(e, '{{') AND try_cast(e AS JSON) IS NOT NULL AS o,
                    CASE WHEN starts_with(e, '{{') THEN try_cast(e AS JSON) END AS j FROM (
                    SELECT row, unnest(h) AS e, generate_subscripts(h, 1) - 1 AS n, unnest(times) AS t
                    FROM raw_history)))"""
    )
    work.run("DROP TABLE raw_history")
    _check(work, source, spec, number)
    work.run(
        f"INSERT INTO list_history SELECT h.number, s.n, CASE WHEN s.kind = {SEARCH} THEN NULL ELSE s.item END, "
        f"s.kind, s.key, s.value, s.query FROM history_row s JOIN head h ON h.part = {number} AND h.row = s.row"
    )
    work.run("DROP TABLE history_row")


def _check(work: Work, source: Source, spec: ListColumns, number: int) -> None:
    """Stop at events that cannot be, leave out products that the catalogue does not have."""
    field = str(spec.history)
    tests = {
        "raw_kind IS NOT NULL AND kind IS NULL": "' has the unknown kind ''' || raw_kind || ''''",
        "moment IS NOT NULL AND key IS NULL": "': ''' || moment || ''' is not a time'",
        f"item IS NULL AND kind <> {SEARCH}": "': an item id is missing'",
        f"kind = {SEARCH} AND query IS NULL": "': a search without a query'",
    }
    for test, what in tests.items():
        for row, text in work.fetch(
            f"SELECT row, 'event ' || n || {what} FROM history_row WHERE {test} ORDER BY row, n LIMIT 1"
        ):
            source.fail(row, field, text)
    late = work.fetch(
        f"SELECT s.row, s.n, s.key, h.time FROM history_row s JOIN head h ON h.part = {number} AND h.row = s.row "
        "WHERE s.key >= h.time ORDER BY s.row, s.n LIMIT 1"
    )
    for row, n, key, time in late:
        moments = [f"{np.datetime64(value, 'us').astype(object)}+00:00" for value in (key, time)]
        source.fail(row, field, f"event {n} at {moments[0]} is not before the list's time {moments[1]}")
    same_day = (
        f"SELECT row FROM head h WHERE h.part = {number} AND h.row = history_row.row AND h.time <= history_row.day_end"
    )
    if n := work.number(f"SELECT count(*) FROM history_row WHERE EXISTS ({same_day})"):
        work.report.repair(source.part, "history event on the list's own day with no time of day, left out", n)
        work.run(f"DELETE FROM history_row WHERE EXISTS ({same_day})")
    unknown = f"kind <> {SEARCH} AND item NOT IN (SELECT id FROM known)"
    lost = work.fetch(f"SELECT row, item FROM history_row WHERE {unknown} ORDER BY row, n")
    if lost and spec.on_unknown == "error":
        source.fail(lost[0][0], field, f"item {lost[0][1]!r} is not in the catalogue; add it to items or leave it out")
    if lost:
        what = "history event on an item not in the catalogue, left out"
        work.report.repair(source.part, what, len(lost), (str(item) for _, item in lost))
        work.run(f"DELETE FROM history_row WHERE {unknown}")

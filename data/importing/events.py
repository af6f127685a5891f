"""The events of an import: read, checked row by row, cleaned and sorted by DuckDB.

    read_events(work, mapping)      # the tables `shopper` (id, code), `query` (text, code), `bot`, `checked`, which
                                    # holds all that is kept of every event, and `log`, which lists are matched with
    log = event_log(work, mapping)  # as arrays on disk

Dropped, counted by reason: an event without a shopper or item, on an item that the catalogue does not have (shops
delist items), of a kind that is not mapped, without a time or with an absurd one, delivered again, and everything of a
shopper with more events on one day than a person makes. An event that takes another back is dropped with what it takes
back: that one has no grade any more, and is in no history after it.
"""

from __future__ import annotations

import re
import time as clock
from typing import TypeVar

import numpy as np

from reshelf.data.importing.casts import NO_QUERY
from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.divided_rows import one_row_each
from reshelf.data.importing.import_report import UNMAPPED
from reshelf.data.importing.items import check_exact
from reshelf.data.importing.joined_ids import UNNEST, warn_of_joined
from reshelf.data.importing.mapping import UNDO, Mapping
from reshelf.data.importing.mapping_file import events_name
from reshelf.data.importing.plausible_times import check_plausible, check_times, earliest_of, written
from reshelf.data.importing.returns import warn_of_returns
from reshelf.data.importing.rules import BuildConfig
from reshelf.data.importing.tables import Source, names_of, open_table, reading
from reshelf.data.importing.taking_back import take_back
from reshelf.data.importing.times import is_whole_day
from reshelf.data.schema import EventKind
from reshelf.data.signals.event_log import NEVER, EventLog
from reshelf.errors import InputError

T = TypeVar("T")
KINDS = tuple(EventKind)
SEARCH = KINDS.index(EventKind.SEARCH)
_GRADES = {EventKind.CLICK: 1, EventKind.CART: 2, EventKind.PURCHASE: 3}
_DAY, _HOUR, _QUARTER = 86_400_000_000, 3_600_000_000, 900_000_000
_MANY = 20
"""Events that say in which zone their midnights are."""
REPEATED = "repeated row"
ONE_SEARCH = "further product of a search, which is one event"
UNKNOWN_ITEM = "item not in the catalogue"
_PLACE = "(CAST(part AS BIGINT) << 56) + row"
"""SQL of what rows of several tables are sorted by: a number is compared faster than a struct."""
_STAGED = (
    "part TINYINT, row BIGINT, user VARCHAR, item INTEGER, unknown VARCHAR, kind VARCHAR, key BIGINT, unread BOOLEAN, "
    "local BOOLEAN, query VARCHAR, list VARCHAR, whole_day BOOLEAN"
)
_OPTIONAL = {
    "value": ("value", "DOUBLE"),
    "bad_value": ("value", "BOOLEAN"),
    "quantity": ("quantity", "DOUBLE"),
    "bad_quantity": ("quantity", "BOOLEAN"),
    "event_id": ("event_id", "VARCHAR"),
    "session": ("session_id", "VARCHAR"),
    "split": ("split", "VARCHAR"),
}
"""Columns that are there where a table maps what they hold: a column costs time even if all of it is NULL."""


def read_events(work: Work, mapping: Mapping) -> None:
    """Read all events tables.

    Raises:
        InputError: names file, row and field.
    """
    optional = "".join(f", {name} {_OPTIONAL[name][1]}" for name in mapped(mapping))
    work.run(f"CREATE TABLE event_row ({_STAGED}{optional})")
    sources = [_stage(work, mapping, number) for number in range(len(mapping.events))]
    _make_kinds(work, mapping)
    for number, source in enumerate(sources):
        warn_of_returns(work, mapping, number, source.part)
    work.task("cleaning events")
    _check_rows(work, mapping, sources)
    _check(work, mapping, sources)
    work.run("DROP TABLE event_row")
    _drop_repeated(work, mapping, sources)
    _drop_bots(work, mapping)
    take_back(work, mapping)
    kept = work.fetch("SELECT part, count(*) FROM checked GROUP BY part")
    for number in range(len(mapping.events)):
        work.report.keep(events_name(mapping, number), dict(kept).get(number, 0))
    if not kept:
        file = sources[0].work.root / sources[0].files[0] if sources[0].files else "events.sql"
        total = sum(work.report.rows_read[source.part] for source in sources)
        if not total:
            raise InputError(
                f"{file}: there are no events in it; give a log with some, or correct events in the mapping"
            )
        reasons = "; ".join(filter(None, (work.report.reasons(source.part) for source in sources)))
        raise InputError(f"{file}: none of {total} events is usable ({reasons}); correct events in the mapping")


def mapped(mapping: Mapping) -> list[str]:
    """Which optional columns the tables `event_row` and `checked` have."""
    return [name for name, (field, _) in _OPTIONAL.items() if any(getattr(spec, field) for spec in mapping.events)]


def _stage(work: Work, mapping: Mapping, number: int) -> Source:
    spec, part = mapping.events[number], events_name(mapping, number)
    work.task(f"reading {part}")
    rest = (
        spec.time,
        spec.order,
        spec.kind_column,
        spec.query,
        spec.value,
        spec.quantity,
        spec.session_id,
        spec.event_id,
        spec.split,
    )
    wanted = names_of(spec.user_id, spec.item_id, spec.list_id, *rest)
    source = open_table(work, spec, part, wanted)
    source, several = one_row_each(source, names_of(spec.item_id))
    order, place, query = "row", "row", source.text(spec.query)
    if not spec.time and spec.order:
        order = source.number(spec.order)
    elif not spec.time and several:
        order = "place"
    columns = {
        "part": str(number),
        "row": place,
        "user": source.id(spec.user_id),
        "item_id": source.id(spec.item_id),
        "kind": source.text(spec.kind_column) if spec.kind_column else quoted(spec.kind.value),
        **source.times(spec.time, "key"),
        "whole_day": is_whole_day(source.column(spec.time), spec) if spec.time else "false",
        "query": f"left(CASE WHEN {query} NOT IN {NO_QUERY} THEN {query} END, {mapping.max_query})",
        "list": source.id(spec.list_id),
    }
    optional = {
        "value": source.number(spec.value),
        "bad_value": source.no_number(spec.value),
        "quantity": source.number(spec.quantity),
        "bad_quantity": source.no_number(spec.quantity),
        "event_id": source.id(spec.event_id),
        "session": source.id(spec.session_id),
        "split": source.text(spec.split),
    }
    columns |= {name: optional[name] for name in mapped(mapping)}
    if not spec.time:
        columns["key"] = f"CAST({order} AS BIGINT)" if order in ("row", "place") else f"CAST({order} * 1e6 AS BIGINT)"
    selected = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    reading(
        work,
        source,
        "INSERT INTO event_row BY NAME SELECT s.* EXCLUDE (item_id), i.code AS item, CASE WHEN i.code IS NULL THEN "
        f"item_id END AS unknown FROM (SELECT {selected} FROM {source.relation}) s LEFT JOIN known i ON i.id = item_id",
    )
    source.count(f"event_row WHERE part = {number}")
    for name in (name for name in ("value", "quantity") if getattr(spec, name)):
        bad = f"SELECT min(row) FROM event_row WHERE part = {number} AND bad_{name} HAVING count(*) > 0"
        for (row,) in work.fetch(bad):
            what = f"{written(source, getattr(spec, name), row)!r} is not a number; correct it, or set decimal"
            source.fail(row, getattr(spec, name), what)
    if spec.order and not spec.time:
        rows = f"event_row WHERE part = {number} AND key IS NULL"
        source.forbid(rows, spec.order, "the order is missing; give a number")
    return source


def _joined(words: str) -> str:
    """`Remove from Cart`, `remove_from_cart` and `removeFromCart` are one word: removefromcart."""
    return re.sub(r"[\s_-]+", "", words.lower())


def _spelt(said: dict[str, T], raw: str) -> T | None:
    """What a mapping says of a raw value: of its own spelling, else of any other, where they do not disagree."""
    found = [said[raw]] if raw in said else [value for name, value in said.items() if _joined(name) == _joined(raw)]
    return found[0] if len(set(found)) == 1 else None


def _make_kinds(work: Work, mapping: Mapping) -> None:
    """The table `kind`: what every raw value of every events table stands for."""
    rows = []
    for number, raw in work.fetch("SELECT DISTINCT part, kind FROM event_row WHERE kind IS NOT NULL"):
        spec = mapping.events[number]
        names = {kind.value: kind for kind in EventKind} | spec.kinds
        kind, own = _spelt(names, raw), _spelt(spec.grades, raw)
        called = raw in names and raw not in spec.undo if spec.undo != UNDO else kind is not None
        takes = None if called else _spelt(spec.undo, raw)  # what the mapping calls a kind is one
        if raw in spec.grades and raw not in names:
            kind = None
        if own is not None and kind is None:
            kind = EventKind.VIEW  # a kind of the shop's own: its grade says what it is worth
        kind = None if takes else kind
        rest = spec.grades.get(kind.value, _GRADES.get(kind, 0)) if kind else 0
        grade = rest if own is None else own
        rated = kind is EventKind.RATING and own is None and kind.value not in spec.grades
        code = "NULL" if kind is None else str(KINDS.index(kind))
        undoes = "NULL" if takes is None else str(KINDS.index(takes))
        rows.append(f"({number}, {quoted(raw)}, {code}, {grade}, {undoes}, {str(rated).lower()})")
    values = ", ".join(rows) or "(NULL, NULL, NULL, NULL, NULL, false)"
    work.run(
        "CREATE TABLE kind AS SELECT CAST(part AS TINYINT) AS part, CAST(raw AS VARCHAR) AS raw, CAST(kind AS "
        "TINYINT) AS kind, CAST(grade AS TINYINT) AS grade, CAST(undoes AS TINYINT) AS undoes, rated "
        f"FROM (VALUES {values}) t(part, raw, kind, grade, undoes, rated)"
    )


def _check_rows(work: Work, mapping: Mapping, sources: list[Source]) -> None:
    """Codes of shoppers in order of first appearance, and of queries; too many unread times are an error."""
    work.run(
        "CREATE TABLE shopper AS SELECT user AS id, CAST(row_number() OVER (ORDER BY first) - 1 AS INTEGER) AS code "
        f"FROM (SELECT user, min({_PLACE}) AS first FROM event_row WHERE user IS NOT NULL GROUP BY user)"
    )
    work.run(
        "CREATE TABLE query AS SELECT query AS text, CAST(row_number() OVER (ORDER BY query) - 1 AS INTEGER) AS code "
        "FROM (SELECT DISTINCT query FROM event_row WHERE query IS NOT NULL)"
    )
    for number, source in enumerate(sources):
        spec = mapping.events[number]
        check_exact(source, spec.user_id, "event_row", "user", f"part = {number}")
        check_exact(source, spec.item_id, "event_row", "unknown", f"part = {number}")
        warn_of_joined(source, spec.item_id, "event_row", f"part = {number}", UNNEST)
        check_times(work, source, "event_row", f"part = {number}", spec.time)
        if spec.time and any(lists.time for lists in (*mapping.lists, *mapping.pairs)):
            _end_whole_days(work, number, spec.timezone or "UTC")


def _end_whole_days(work: Work, part: int, timezone: str) -> None:
    """An event of which only the day is known counts from the end of that day: it may have come after any list of it.

    A day is written as a date, or as midnight in every row of a table (of some zone, if there are enough rows to say).
    """
    local = f"timezone({quoted(timezone)}, make_timestamptz(key))"
    rows = f"FROM event_row WHERE part = {part} AND key IS NOT NULL"
    quarters, n = work.fetch(f"SELECT bool_and(key % {_QUARTER} = 0 OR key < 0), count(*) {rows}")[0]
    every = False
    if quarters:  # all zones are whole quarters of an hour from UTC, since 1970
        midnights, moments, apart = work.fetch(
            f"SELECT bool_and({local} = date_trunc('day', {local})), count(DISTINCT key % {_DAY}), "
            f"max(key % {_DAY}) - min(key % {_DAY}) {rows}"
        )[0]
        one_moment = moments == 1 or (moments == 2 and apart in (_HOUR, _DAY - _HOUR))  # summer and winter
        every = (midnights and n > 1) or (n >= _MANY and one_moment)
    where = f"part = {part} AND key IS NOT NULL" + ("" if every else " AND whole_day")
    end = f"epoch_us(timezone({quoted(timezone)}, {local} + INTERVAL 1 DAY)) - 1"
    work.run(f"UPDATE event_row SET key = {end}, whole_day = true WHERE {where}")


def _check(work: Work, mapping: Mapping, sources: list[Source]) -> None:
    """The table `checked`, sorted: codes for texts; rows to drop are counted by reason and left out."""
    optional = [name for name in mapped(mapping) if not name.startswith("bad_")]
    thresholds = (mapping.build or BuildConfig()).rating_thresholds if "value" in optional else []
    stars = " + ".join(f"CAST(s.value >= {least} AS TINYINT)" for least in thresholds) or "0"
    latest = int((clock.time() + 86_400) * 1e6)
    earliest = " ".join(f"WHEN {n} THEN {earliest_of(spec)}" for n, spec in enumerate(mapping.events))
    timed = "true" if mapping.events[0].time else "false"
    has_query = "true" if any(spec.query for spec in mapping.events) else "false"
    counted = "quantity" in optional
    undoes = "CASE WHEN s.quantity < 0 THEN coalesce(k.undoes, k.kind) ELSE k.undoes END" if counted else "k.undoes"
    days = sorted({spec.earliest for spec in mapping.events})
    reason = f"""CASE
        WHEN s.user IS NULL THEN 'shopper id missing'
        WHEN k.kind IS NULL AND k.undoes IS NULL THEN '{UNMAPPED}'
        WHEN s.item IS NULL AND s.unknown IS NULL AND k.kind IS DISTINCT FROM {SEARCH} THEN 'item id missing'
        WHEN s.item IS NULL AND k.kind IS DISTINCT FROM {SEARCH} THEN '{UNKNOWN_ITEM}'
        WHEN k.kind = {SEARCH} AND s.row % {_step(sources, "s.part")} > 0 THEN '{ONE_SEARCH}'
        WHEN k.kind = {SEARCH} AND s.query IS NULL AND {has_query} THEN 'search without a query'
        WHEN {timed} AND s.unread THEN 'time cannot be read'
        WHEN s.key IS NULL THEN 'time missing'
        WHEN {"s.quantity = 0" if counted else "false"} THEN 'quantity is 0'
        WHEN {timed} AND (s.key < CASE s.part {earliest} END OR s.key > {latest})
            THEN 'time before {" or ".join(days)} or in the future' END"""
    work.run(
        f"""CREATE TABLE checked AS SELECT s.part, s.row, u.code AS user,
            CASE WHEN k.kind = {SEARCH} THEN -1 ELSE s.item END AS item, k.kind, {undoes} AS undoes, s.key,
            coalesce(q.code, -1) AS query, s.list, s.whole_day, {"".join(f"s.{name}, " for name in optional)}
            CAST(CASE WHEN k.rated THEN coalesce({stars}, 0) ELSE coalesce(k.grade, 0) END AS TINYINT) AS grade,
            {reason} AS reason
        FROM event_row s LEFT JOIN kind k ON k.part = s.part AND k.raw = s.kind
            LEFT JOIN shopper u ON u.id = s.user LEFT JOIN query q ON q.text = s.query
        ORDER BY u.code, s.key, s.part, s.row"""
    )
    kinds: dict[int, list[str]] = {}
    for number, raw, n in work.fetch(
        "SELECT s.part, coalesce(s.kind, 'no kind'), count(*) FROM event_row s LEFT JOIN kind k ON k.part = s.part AND "
        "k.raw = s.kind WHERE s.user IS NOT NULL AND k.kind IS NULL AND k.undoes IS NULL "
        "GROUP BY ALL ORDER BY 3 DESC, 2"
    ):
        kinds.setdefault(number, []).append(f"{raw}: {n:,}")
    for number, why, n in work.fetch(
        "SELECT part, reason, count(*) FROM checked WHERE reason IS NOT NULL GROUP BY ALL ORDER BY 1, 2"
    ):
        examples = kinds.get(number, []) if why == UNMAPPED else []
        if why == UNKNOWN_ITEM:
            examples = _first(work, "unknown", f"part = {number} AND unknown IS NOT NULL")
        elif why.startswith("time before"):
            dates = "CAST(make_timestamp(key) AS DATE)"
            examples = _first(
                work, dates, f"part = {number} AND key NOT BETWEEN {earliest_of(mapping.events[number])} AND {latest}"
            )
        work.report.drop(sources[number].part, why, n, examples)
    infinite = "SELECT part, count(*) FROM checked WHERE isinf(value) AND reason IS NULL GROUP BY part"
    for number, n in work.fetch(infinite) if "value" in optional else ():
        work.report.repair(sources[number].part, "value is infinite, now missing", n, ["Infinity"])
    if work.number("SELECT count(*) FROM checked WHERE reason IS NULL"):
        for number, source in enumerate(sources):
            late = "reason LIKE 'time before %'"
            check_plausible(source, "checked", f"part = {number}", late, "key", mapping.events[number].time)
    for number, source in enumerate(sources):
        spec = mapping.events[number]
        lost = f"SELECT row FROM checked WHERE part = {number} AND reason = '{UNKNOWN_ITEM}'"
        if spec.on_unknown == "error" and (found := work.fetch(f"{lost} ORDER BY row LIMIT 1")):
            row = found[0][0]
            item = work.fetch(f"SELECT unknown FROM event_row WHERE part = {number} AND row = {row}")[0][0]
            what = f"item {item!r} is not in the catalogue; add it to items, or set on_unknown: drop"
            source.fail(row, names_of(spec.item_id)[0], what)
    work.run(f"CREATE TABLE lost AS SELECT user, key FROM checked WHERE reason = '{UNKNOWN_ITEM}'")
    work.run("DELETE FROM checked WHERE reason IS NOT NULL")


def _step(sources: list[Source], part: str) -> str:
    """SQL of how many numbers of rows each row of a file has, by its part."""
    return f"CASE {part} " + " ".join(f"WHEN {n} THEN {source.step}" for n, source in enumerate(sources)) + " END"


def _first(work: Work, column: str, where: str) -> list[str]:
    """A few different values of the events' rows, as examples."""
    found = work.fetch(
        f"SELECT {column} AS value FROM event_row WHERE {where} GROUP BY value ORDER BY min(row) LIMIT 3"
    )
    return [str(value) for (value,) in found]


def _drop_bots(work: Work, mapping: Mapping) -> None:
    """The table `bot` (user): shoppers with more events on one day than a person makes; their events go."""
    work.run("CREATE TABLE bot (user INTEGER)")
    if not mapping.events[0].time:
        return
    limit = " ".join(f"WHEN {n} THEN {spec.max_per_day}" for n, spec in enumerate(mapping.events))
    work.run(
        f"INSERT INTO bot SELECT DISTINCT user FROM (SELECT user FROM checked GROUP BY user, key // {_DAY} "
        f"HAVING count(*) > max(CASE part {limit} END))"
    )
    for number, n in work.fetch("SELECT part, count(*) FROM checked SEMI JOIN bot USING (user) GROUP BY part"):
        why = f"shopper with more than {mapping.events[number].max_per_day} events on one day"
        work.report.drop(events_name(mapping, number), why, n)
    work.run("DELETE FROM checked WHERE user IN (FROM bot)")


def _drop_repeated(work: Work, mapping: Mapping, sources: list[Source]) -> None:
    """Rows that say again what an earlier one said: the same event id on the same item, or the same shopper, item, kind
    and moment. The products of an order may share its id, and so do an order and its return. A product that is in one
    row twice was chosen twice."""
    if any(spec.event_id for spec in mapping.events):
        work.run(
            "CREATE TABLE again AS SELECT part, row FROM (SELECT part, row, row_number() OVER (PARTITION BY event_id, "
            "item, kind, undoes ORDER BY key, part, row) AS n FROM checked WHERE event_id IS NOT NULL) WHERE n > 1"
        )
        _drop_again(work, mapping, "event id seen before")
    if not (mapping.events[0].time or mapping.events[0].order):
        return
    before = "SELECT user, key, lag(user) OVER () AS user_before, lag(key) OVER () AS key_before FROM checked"
    at_once = f"SELECT user, key FROM ({before}) WHERE user = user_before AND key = key_before"
    work.run(
        "CREATE TABLE again AS SELECT part, row FROM (SELECT part, row, rank() OVER (PARTITION BY user, item, kind, "
        f"undoes, key, query ORDER BY part, row // {_step(sources, 'part')}) AS n FROM checked SEMI JOIN ({at_once}) "
        "USING (user, key)) WHERE n > 1"
    )
    _drop_again(work, mapping, REPEATED)


def _drop_again(work: Work, mapping: Mapping, reason: str) -> None:
    for number, n in work.fetch("SELECT part, count(*) FROM again GROUP BY part"):
        work.report.drop(events_name(mapping, number), reason, n)
    if work.number("SELECT count(*) FROM again"):
        work.run("DELETE FROM checked WHERE (part, row) IN (SELECT part, row FROM again)")
    work.run("DROP TABLE again")


def event_log(work: Work, mapping: Mapping) -> EventLog:
    """The events as arrays; their rows are those of the table `log`."""
    value = "CASE WHEN isfinite(value) THEN value ELSE 'nan'::DOUBLE END" if "value" in mapped(mapping) else "'nan'"
    columns = work.spool(
        "events",
        f"SELECT user, item, kind, key, CAST({value} AS DOUBLE) AS value, grade, query, coalesce(undone, {NEVER}) AS "
        "undone FROM checked c LEFT JOIN taken t ON t.part = c.part AND t.row = c.row ORDER BY c.rowid",
        {"user": np.int32, "item": np.int32, "kind": np.int8, "key": np.int64, "value": np.float64, "grade": np.int8}
        | {"query": np.int32, "undone": np.int64},
    )
    counts = np.bincount(columns["user"], minlength=work.number("SELECT count(*) FROM shopper"))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    split = np.full(len(columns["user"]), -1, dtype=np.int8)
    return EventLog(starts=starts, timed=bool(mapping.events[0].time), split=split, **columns)

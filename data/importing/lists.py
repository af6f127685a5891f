"""The lists of an import: shown rows put together, cleaned and labelled by DuckDB.

    lists = read_lists(work, mapping, sources)      # tables `head` (one row per list) and `cand` (one row per
    candidate)

Errors: a list whose rows disagree in shopper, query or split, a list id that comes in two tables, two products at one
place.
Dropped, counted: a product that comes again in its list (its best label is kept), products that the catalogue does not
have, lists of bots, lists whose window for outcomes is still open when the log ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.attribution import attribute, hide_named
from reshelf.data.importing.database import Arrays, Work, quoted
from reshelf.data.importing.events import UNKNOWN_ITEM
from reshelf.data.importing.mapping import ListColumns, ListsTable, Mapping, PairsTable
from reshelf.data.importing.reused_ids import count_merged, divide, name_again
from reshelf.data.importing.shown import labelled_by_events, parts_of
from reshelf.data.importing.tables import Source, names_of
from reshelf.data.signals.event_log import Int64
from reshelf.errors import InputError

AGAIN = "item again in the same list, best label kept"
_HOUR = 3_600_000_000


@dataclass
class Lists:
    """Lists in order of reading; arrays run parallel."""

    part: npt.NDArray[np.int8]
    """Number of the table, lists before pairs; -1 for lists made from events."""
    number: Int64
    """Number of the list in the table `head`."""
    row: Int64
    """First row of the list in its table."""
    user: npt.NDArray[np.int32]
    """Code of the shopper."""
    time: Int64
    """Microseconds since 1970 UTC; `NO_TIME` where the table has none."""
    query: npt.NDArray[np.int32]
    """Code of its text."""
    split: npt.NDArray[np.int8]
    start: Int64
    """Where its candidates begin."""
    size: Int64
    """How many there are."""
    candidates: Arrays
    """`item`, `label`, `position`, `score` and `price` of all candidates of all lists."""

    def __len__(self) -> int:
        return len(self.number)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Lists:
        """Some of the lists, over the same candidates."""
        changed = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "candidates"}
        return replace(self, **changed)


def read_lists(work: Work, mapping: Mapping, sources: Sequence[Source]) -> Lists:
    """Put the rows of `shown` together.

    Raises:
        InputError: names file, row and field.
    """
    parts = parts_of(mapping)
    work.task("putting lists together")
    _make_codes(work)
    for number, (_, spec) in enumerate(parts):
        grouped = isinstance(spec, PairsTable) and not spec.each_row and spec.session_hours is None
        if grouped and spec.time and (spec.list_id or spec.list_id_scope):
            divide(work, number)
    _make_heads(work, mapping, sources)
    _make_candidates(work, mapping, sources)
    _drop_lists_of_bots(work, sources)
    if any(labelled_by_events(spec) for _, spec in parts):
        attribute(work, mapping)
    else:
        work.run("CREATE TABLE outcome (number BIGINT, item INTEGER, grade TINYINT)")
        work.run("CREATE TABLE touch (number BIGINT, item INTEGER, event BIGINT, key BIGINT, grade TINYINT)")
        work.run("CREATE TABLE own (number BIGINT, event BIGINT)")
    hide_named(work)
    _drop_open_windows(work, parts)  # afterwards: what they showed last is no outcome of an earlier list
    for number, (part, spec) in enumerate(parts):
        unit = "1" if isinstance(spec, ListsTable) else "size"
        work.report.keep(part, work.number(f"SELECT sum({unit}) FROM head WHERE part = {number}"))
    candidates = work.spool(
        "lists",
        "SELECT c.item, CAST(greatest(c.label, coalesce(o.grade, 0)) AS TINYINT) AS label, "
        "CAST(coalesce(c.place, 0) AS BIGINT) AS position, coalesce(c.score, 'nan'::DOUBLE) AS score, "
        "coalesce(c.price, 'nan'::DOUBLE) AS price "
        "FROM cand c SEMI JOIN head h ON h.number = c.number LEFT JOIN outcome o ON o.number = c.number AND o.item = "
        "c.item ORDER BY c.number, c.ord, c.place, c.row, c.n",
        {"item": np.int32, "label": np.int8, "position": np.int64, "score": np.float64, "price": np.float64},
    )
    head = work.arrays(
        "SELECT part, number, row, u.code AS user, coalesce(time, -9223372036854775808) AS time, q.code AS query, "
        "split, size FROM head JOIN shopper u ON u.id = head.user JOIN query q ON q.text = head.query ORDER BY number"
    )
    size = head["size"].astype(np.int64)
    return Lists(
        part=head["part"].astype(np.int8), number=head["number"].astype(np.int64), row=head["row"].astype(np.int64),
        user=head["user"].astype(np.int32), time=head["time"].astype(np.int64), query=head["query"].astype(np.int32),
        split=head["split"].astype(np.int8), start=np.cumsum(size) - size, size=size, candidates=candidates,
    )  # fmt: skip


def _make_codes(work: Work) -> None:
    """Codes for the shoppers and queries that only lists have."""
    for table, column, key in (("shopper", "user", "id"), ("query", "query", "text")):
        work.run(
            f"INSERT INTO {table} BY NAME SELECT {column} AS {key}, CAST((SELECT count(*) FROM {table}) + "
            f"row_number() OVER "
            f"(ORDER BY first) - 1 AS INTEGER) AS code FROM (SELECT {column}, min(struct_pack(part := part, row := "
            f"row)) AS first FROM shown WHERE {column} NOT IN (SELECT {key} FROM {table}) GROUP BY {column})"
        )


def _make_heads(work: Work, mapping: Mapping, sources: Sequence[Source]) -> None:
    key = query_key_sql("query", mapping)
    work.run(
        f"""CREATE TABLE head AS SELECT *, row_number() OVER (ORDER BY part, least_row) - 1 AS number FROM (
            SELECT part, gkey, min(row) AS least_row, arg_min(row, first) AS row, arg_min(list, first) AS list,
                arg_min(list_text, first) AS list_text, arg_min(user, first) AS user, min(time) AS time,
                arg_min(query, first) AS query, arg_min(context, first) AS context, arg_min(split, first) AS split,
                min(user) <> max(user) AS users, min({key}) <> max({key}) AS queries,
                min(context) <> max(context) AS contexts, min(split) <> max(split) AS splits, bool_or(long) AS long
            FROM (SELECT *, struct_pack(time := coalesce(time, 0), row := row) AS first FROM shown) GROUP BY part,
                gkey)"""
    )
    for number, source in enumerate(sources):
        spec = source.spec
        assert isinstance(spec, ListColumns)
        cut = work.fetch(f"SELECT query FROM head WHERE part = {number} AND long ORDER BY number")
        work.report.repair(
            source.part, f"query cut to {mapping.max_query} characters", len(cut), (query for (query,) in cut)
        )
        said = {"user": spec.user_id, "query": spec.query or spec.query_id, "context": [*spec.context.values()]}
        for what, column in (said | {"split": spec.split}).items():
            noun = {"user": "users", "query": "queries", "context": "contexts", "split": "splits"}[what]
            if found := work.fetch(
                f"SELECT row, gkey, {what} FROM head WHERE part = {number} AND {noun} ORDER BY least_row LIMIT 1"
            ):
                _disagree(work, source, spec, what, names_of(column)[0] if column else "", *found[0])
    for number, source in enumerate(sources):
        if isinstance(source.spec, ListsTable):
            count_merged(work, source.part, number)
        name_again(work, source.part, number)
        work.run(f"UPDATE head SET list_text = '{source.part}-' || row WHERE list_text IS NULL AND part = {number}")
    work.run("CREATE TABLE numbered AS SELECT number, list_text, context FROM head")
    again = work.fetch(
        "SELECT part, row, list_text FROM (SELECT *, row_number() OVER (PARTITION BY list_text ORDER BY number) AS n "
        "FROM head) WHERE n > 1 ORDER BY part, least_row LIMIT 1"
    )
    for part, row, text in again:
        first_part, first = work.fetch(
            f"SELECT part, row FROM head WHERE list_text = {quoted(text)} ORDER BY number LIMIT 1"
        )[0]
        where, there = sources[part].place(row), sources[first_part].place(first)
        what = f"{text!r} is there already ({there}); list ids must be unique"
        cure = "set list_id_scope in one of the tables, such as [list_id, user_id], or leave one list out with where"
        raise InputError(f"{where}, field list_id: {what}; {cure}")


def query_key_sql(column: str, mapping: Mapping) -> str:
    """SQL of what counts as the same query."""
    if mapping.query_key == "exact":
        return column
    return f"lower(regexp_replace(trim(nfc_normalize({column})), '\\s+', ' ', 'g'))"


def _disagree(
    work: Work, source: Source, spec: ListColumns, what: str, column: str, row: int, key: str, value: object
) -> None:
    """Two rows of one list say different things."""
    same = key.replace("'", "''")
    test = f"gkey = '{same}' AND part = (SELECT part FROM shown WHERE row = {row} AND gkey = '{same}' LIMIT 1)"
    other, found = work.fetch(
        f"SELECT row, {what} FROM shown WHERE {test} AND {what} IS DISTINCT FROM (SELECT {what} FROM shown WHERE "
        f"{test} AND row = {row} LIMIT 1) ORDER BY row LIMIT 1"
    )[0]
    if what == "split":
        names = (*SPLITS, "no split")
        source.fail(
            other, column, f"the list is in {names[int(str(value))]} by {source.place(row)}; a list has one split"
        )
    noun = "shopper" if what == "user" else what
    scope = "user_id" if what == "user" else column if what == "context" else "query"
    source.fail(
        other,
        column,
        f"the {noun} is {found!r}, but {value!r} in the same list {key!r} ({source.place(row)}); set list_id_scope: "
        f"[list_id, {scope}] where one id stands for several lists, or correct the rows",
    )


def _make_candidates(work: Work, mapping: Mapping, sources: Sequence[Source]) -> None:
    """The table `cand`: every known product once in its list, where it comes first, with its best label."""
    work.run(
        "CREATE TABLE cand AS SELECT h.number, s.part, s.item, s.label, s.ord, s.place, s.row, s.n, s.score, s.price "
        "FROM shown s JOIN head h ON h.part = s.part AND h.gkey = s.gkey WHERE s.item IS NOT NULL"
    )
    work.run(
        """CREATE TABLE again AS SELECT number, any_value(part) AS part, item, max(label) AS label, count(*) AS times,
            unnest(min(struct_pack(ord := ord, place := place, row := row, n := n, score := score, price := price)))
        FROM cand SEMI JOIN (SELECT number, item FROM cand GROUP BY number, item HAVING count(*) > 1)
            USING (number, item) GROUP BY number, item"""
    )
    work.run("DELETE FROM cand WHERE (number, item) IN (SELECT number, item FROM again)")
    work.run("INSERT INTO cand BY NAME SELECT * EXCLUDE (times) FROM again")
    for number, source in enumerate(sources):
        spec = source.spec
        assert isinstance(spec, ListColumns)
        where = f"part = {number}"
        unknown = f"FROM shown WHERE {where} AND item IS NULL"
        lost = work.number(f"SELECT count(*) {unknown}")
        column = names_of(spec.item_id)[0] if isinstance(spec, PairsTable) else getattr(spec, "candidates", "")
        if lost and spec.on_unknown == "error":
            row, item = work.fetch(f"SELECT row, unknown {unknown} ORDER BY row, n LIMIT 1")[0]
            what = "an item id is missing" if item is None else f"item {item!r} is not in the catalogue"
            source.fail(row, column, f"{what}; add it to items, leave it out, or set on_unknown: drop")
        note = work.report.drop if isinstance(spec, PairsTable) else work.report.repair
        some = work.fetch(
            f"SELECT unknown {unknown} AND unknown IS NOT NULL GROUP BY unknown ORDER BY min(row) LIMIT 3"
        )
        note(source.part, UNKNOWN_ITEM, lost, [str(text) for (text,) in some])
        again = work.number(f"SELECT sum(times - 1) FROM again WHERE {where}")
        note(source.part, AGAIN, again)
        position = None
        if isinstance(spec, PairsTable) and spec.session_hours is None and not spec.each_row:
            position = spec.position
        if position and (twice := work.fetch(
            f"SELECT max(row), number, place FROM cand WHERE {where} GROUP BY number, place HAVING count(*) > 1 "
            "ORDER BY 1 LIMIT 1"
        )):  # fmt: skip
            row, _, place = twice[0]
            what = f"two products of one list are at position {place:g}"
            source.fail(row, str(position), f"{what}; set list_id_scope to what tells pages or slots apart")
    work.run("CREATE TABLE sized AS SELECT number, count(*) AS size FROM cand GROUP BY number")
    for number, n, names in work.fetch(
        "SELECT part, count(*), list_slice(list(list_text ORDER BY number), 1, 3) FROM head "
        "WHERE number NOT IN (SELECT number FROM sized) GROUP BY part"
    ):
        shown = "SELECT min(s.unknown) FROM shown s JOIN head h USING (part, gkey) WHERE h.list_text = "
        names = [
            f"list {name}" + (f" of {item!r}" if (item := work.fetch(f"{shown}{quoted(name)}")[0][0]) else "")
            for name in names
            if name is not None
        ]
        if isinstance(sources[number].spec, ListsTable):
            work.report.drop(sources[number].part, "list of which the catalogue has nothing", n, names)
        else:
            work.report.repair(sources[number].part, "list of which the catalogue has nothing, left out", n, names)
    work.run("CREATE TABLE sized_head AS SELECT head.*, sized.size FROM head JOIN sized USING (number)")
    work.run("DROP TABLE head")
    work.run("ALTER TABLE sized_head RENAME TO head")
    work.run("DROP TABLE shown")
    work.run("DROP TABLE again")


def _drop(work: Work, test: str, reason: str, parts: Sequence[tuple[str, ListColumns]]) -> None:
    """Drop lists, counted in the rows of their tables."""
    for number, lists, rows in work.fetch(f"SELECT part, count(*), sum(size) FROM head WHERE {test} GROUP BY part"):
        part, spec = parts[number]
        work.report.drop(part, reason, lists if isinstance(spec, ListsTable) else rows)
    work.run(f"DELETE FROM head WHERE {test}")


def _drop_lists_of_bots(work: Work, sources: Sequence[Source]) -> None:
    parts = [(source.part, source.spec) for source in sources]
    test = "user IN (SELECT id FROM shopper JOIN bot ON bot.user = shopper.code)"
    _drop(work, test, "list of a dropped bot", parts)  # type: ignore[arg-type]


def _drop_open_windows(work: Work, parts: Sequence[tuple[str, ListColumns]]) -> None:
    """Lists whose outcome is not known yet when the log ends."""
    windows = " ".join(
        f"WHEN {n} THEN {int(spec.window_hours * _HOUR)}"
        for n, (_, spec) in enumerate(parts)
        if labelled_by_events(spec)
    )
    if not windows or not work.number("SELECT count(*) FROM log"):
        return
    end = work.number("SELECT max(key) FROM log")
    moment = np.datetime64(end, "us")
    test = f"time + CASE part {windows} END > {end}"
    still_open, total = work.fetch(f"SELECT count(*) FILTER (WHERE {test}), count(*) FROM head")[0]
    if total and still_open == total:  # a log shorter than the window
        begin = work.number("SELECT least((SELECT min(key) FROM log), min(time)) FROM head")
        late = f"time > {end - (end - begin) // 10} AND time <= {end}"
        test = f"({late} AND number NOT IN (SELECT number FROM outcome))"
        later, kept = work.fetch(
            f"SELECT count(*) FILTER (WHERE time > {end}), count(*) FILTER (WHERE NOT {test}) FROM head"
        )[0]
        if later:
            work.report.warn(
                f"{later} of {total} lists are later than the last event ({moment}): the log does not say what came of "
                "them"
            )
        if kept > later:
            work.report.warn(
                f"the window for outcomes of all {total} lists is still open when the log ends ({moment}): later "
                "events may change their labels; set window_hours lower, or give a log that goes on"
            )
    elif still_open > total / 2:
        work.report.warn(
            f"the window for outcomes of {still_open} of {total} lists is still open when the log ends ({moment}): set "
            "window_hours lower to keep more of them"
        )
    _drop(work, test, "window for outcomes still open when the log ends", parts)

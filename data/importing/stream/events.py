"""The events of a streamed import: read in pieces, checked row by row, cleaned and sorted by DuckDB, put on disk.

    events = stream_events(work, spec, root, item_ids, mapping)
    events.log.before(user, time)         # the same EventLog as in memory, with its arrays on disk

The rules are those of `data.importing.history`, which is also what checks the single rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reshelf.data.importing.files import count_rows, find_files
from reshelf.data.importing.history import (
    DAY,
    REPEATED,
    EventLog,
    check_rows,
    columns_of,
    explode,
    none_usable,
    too_busy,
)
from reshelf.data.importing.mapping import EventsTable
from reshelf.data.importing.pairs import event_grades
from reshelf.data.importing.readers import read_batches
from reshelf.data.importing.splits import UNKNOWN
from reshelf.data.importing.stream.work import Int32, Spool, Work

_SAID = (
    'CREATE TABLE said ("row" BIGINT, "user" INTEGER, item INTEGER, kind TINYINT, "key" BIGINT, "day" INTEGER, '
    "value DOUBLE, query INTEGER, list INTEGER, grade TINYINT)"
)
_SAME = '"user", item, kind, "key", query'


@dataclass
class Events:
    """The kept events; also the table `said` of the database, for labels."""

    log: EventLog
    query: Int32
    """Code of each event's query; -1 for none."""
    list: Int32
    """Code of the list it happened on; -1 where the log does not say."""


def stream_events(
    work: Work, spec: EventsTable, root: Path, item_ids: list[str], rating_thresholds: list[float]
) -> Events:
    """Read, clean and sort the events table.

    Raises:
        InputError: names file, row and field.
    """
    files = find_files(spec, root, "events")
    n_read = _stage(work, spec, root, item_ids, rating_thresholds, count_rows(files))
    task = work.progress.add_task("cleaning and sorting events", total=None)
    books, base = work.books, work.base
    base.execute(
        'CREATE TABLE busy AS SELECT DISTINCT "user" FROM said GROUP BY "user", "day" '
        f"HAVING count(*) > {spec.max_per_day}"
    )
    books.drop("events", too_busy(spec), work.number('SELECT count(*) FROM said SEMI JOIN busy USING ("user")'))
    base.execute('DELETE FROM said WHERE "user" IN (FROM busy)')
    base.execute(
        f'CREATE TABLE again AS SELECT {_SAME}, min("row") AS first, count(*) AS times FROM said '
        "GROUP BY ALL HAVING count(*) > 1"
    )
    books.drop("events", REPEATED, work.number("SELECT sum(times - 1) FROM again"))
    same = " AND ".join(f"said.{name.strip()} = again.{name.strip()}" for name in _SAME.split(","))
    base.execute(f'DELETE FROM said USING again WHERE {same} AND said."row" > again.first')
    kept = work.number("SELECT count(*) FROM said")
    if not kept:
        raise none_usable(files[0], n_read, books)
    books.keep("events", kept)
    work.progress.update(task, total=kept)
    spool = Spool(
        work.folder / "events",
        {"user": np.int32, "item": np.int32, "kind": np.int8, "key": np.int64, "value": np.float64}
        | {"query": np.int32, "list": np.int32},
    )
    for piece in work.batches(
        'SELECT "user", item, kind, "key", value, query, list FROM said ORDER BY "user", "key", "row"'
    ):
        spool.add(**piece)
        work.progress.advance(task, len(piece["user"]))
    columns = spool.columns()
    users = list(work.users.known)
    counts = np.bincount(columns["user"], minlength=len(users))
    log = EventLog(
        users=users,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        user=columns["user"],
        item=columns["item"],
        kind=columns["kind"],
        key=columns["key"],
        timed=True,
        value=columns["value"],
        query=None,
        list_id=None,
        split=np.full(kept, UNKNOWN, dtype=np.int8),
        item_ids=item_ids,
    )
    return Events(log, columns["query"], columns["list"])


def _stage(
    work: Work, spec: EventsTable, root: Path, item_ids: list[str], rating_thresholds: list[float], total: int | None
) -> int:
    """Put the rows that are good by themselves into `said`; returns how many were read."""
    task = work.progress.add_task("reading events", total=total)
    work.base.execute(_SAID)
    known = pa.array(item_ids, pa.string())
    n_read = first = 0
    work.books.read("events", 0)
    for raw in read_batches(spec, root, columns_of(spec), "events", work.rows):
        work.progress.advance(task, raw.n_read)
        raw, position = explode(raw, spec)
        work.books.read("events", raw.n_read)
        work.books.drop("events", "not chosen by where", raw.n_read - len(raw))
        n_read += raw.n_read
        rows = check_rows(raw, position, spec, known, work.books)
        user = work.users.of(rows.user)
        query = work.queries.of(rows.query) if rows.query is not None else _none(len(raw))
        lists = work.lists.of(raw.ids(spec.list_id, required=False)) if spec.list_id else _none(len(raw))
        columns = {
            "row": np.arange(first, first + len(raw)), "user": user, "item": rows.item, "kind": rows.kind,
            "key": rows.key, "day": (rows.key // DAY).astype(np.int32), "value": rows.value, "query": query,
            "list": lists, "grade": event_grades(rows.kind, rows.value, rating_thresholds),
        }  # fmt: skip
        first += len(raw)
        work.insert("said", {name: values[rows.keep] for name, values in columns.items()})
    return n_read


def _none(n: int) -> npt.NDArray[np.int32]:
    return np.full(n, -1, dtype=np.int32)

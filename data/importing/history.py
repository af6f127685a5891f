"""The event log of an import, and what a shopper had done strictly before a moment.

    log = read_events(spec, root, items, split, books, seed=0)
    log.before(user, time)        # indices of that shopper's events earlier than `time`, oldest first
    log.events(indices)           # as Event records

Errors: a missing shopper or item id, a time or number that cannot be read, a column that is not there.
Dropped, counted by reason: an event on an item that the catalogue does not have (shops delist items), of a kind that
is not mapped, without a time or with an absurd one, a repeated row, everything of a shopper with more events on one
day than a person makes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.mapping import EventsTable, SplitConfig
from reshelf.data.importing.readers import NO_TIME, RawTable, parse_time, read_table, to_datetime
from reshelf.data.importing.splits import UNKNOWN, by_share, by_time, from_names, leave_one_out, time_cuts
from reshelf.data.schema import Event, EventKind
from reshelf.errors import InputError

KINDS = tuple(EventKind)
_SEARCH = KINDS.index(EventKind.SEARCH)
REPEATED = "repeated row"
DAY = 86_400_000_000
Int64 = npt.NDArray[np.int64]


@dataclass
class EventLog:
    """All kept events, sorted by shopper and then by `key`; arrays run parallel."""

    users: list[str]
    starts: Int64
    """int64 [U + 1]: where each shopper's events begin."""
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    """Row of the catalogue; -1 for a search."""
    kind: npt.NDArray[np.int8]
    """Index into `KINDS`."""
    key: Int64
    """Time in microseconds since 1970 where `timed`, else a rank. Equal keys are simultaneous."""
    timed: bool
    value: npt.NDArray[np.float64]
    """NaN where missing."""
    query: list[str | None] | None
    list_id: list[str | None] | None
    split: npt.NDArray[np.int8]
    item_ids: list[str]
    cuts: tuple[int, int] | None = None
    """First time of valid and of test, where the split is by time."""
    codes: dict[str, int] = field(default_factory=dict)
    """Shopper to code."""
    _made: dict[int, Event] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def span(self, user: int) -> slice:
        return slice(int(self.starts[user]), int(self.starts[user + 1]))

    def before(self, user: int, key: int) -> Int64:
        """The shopper's events with a key strictly below `key`, oldest first."""
        start, end = int(self.starts[user]), int(self.starts[user + 1])
        return np.arange(start, start + int(np.searchsorted(self.key[start:end], key, side="left")))

    def before_split(self, user: int, split: int) -> Int64:
        """The shopper's events that belong to an earlier split."""
        start, end = int(self.starts[user]), int(self.starts[user + 1])
        return start + np.flatnonzero(self.split[start:end] < split)

    def events(self, indices: Iterable[int]) -> tuple[Event, ...]:
        """Records of the given events; each is made once."""
        return tuple(self._made.get(int(i)) or self._make(int(i)) for i in indices)

    def _make(self, i: int) -> Event:
        search = self.item[i] < 0
        event = Event(
            kind=KINDS[self.kind[i]],
            time=to_datetime(int(self.key[i])) if self.timed else None,
            item_id=None if search else self.item_ids[self.item[i]],
            query=self.query[i] if search and self.query else None,
            value=None if np.isnan(self.value[i]) else float(self.value[i]),
        )
        self._made[i] = event
        return event


@dataclass
class EventRows:
    """What can be said of the rows of an events table one by one; arrays run parallel."""

    user: pa.StringArray
    item: npt.NDArray[np.int32]
    """Row of the catalogue; -1 for a search."""
    kind: npt.NDArray[np.int8]
    key: Int64
    value: npt.NDArray[np.float64]
    query: pa.StringArray | None
    keep: npt.NDArray[np.bool_]


def lower_bound(values: Int64, low: Int64, high: Int64, wanted: Int64) -> Int64:
    """`np.searchsorted(values[low:high], wanted) + low` for many slices, each of them sorted, at once."""
    low, high = low.copy(), high.copy()
    last = max(len(values) - 1, 0)
    while (low < high).any():
        middle = (low + high) // 2
        below = (low < high) & (values[np.minimum(middle, last)] < wanted)
        low, high = np.where(below, middle + 1, low), np.where(below, high, np.minimum(middle, high))
    return low


def columns_of(spec: EventsTable) -> list[str]:
    """The columns that are read."""
    names = ("user_id", "item_id", "time", "order", "kind_column", "query", "value", "list_id", "split")
    return [c for n in names if (c := getattr(spec, n))]


def check_rows(
    raw: RawTable, position: Int64 | None, spec: EventsTable, item_ids: pa.StringArray, books: Accounts
) -> EventRows:
    """Check events one by one; those to drop, counted by reason, are no longer in `keep`.

    Raises:
        InputError: names file, row and field.
    """
    n = len(raw)
    user = raw.ids(spec.user_id)
    kind = _kinds(raw, spec)
    item_text = raw.ids(spec.item_id, required=False)
    no_item = item_text.is_null().to_numpy(zero_copy_only=False)
    if bool((bad := no_item & (kind != _SEARCH) & (kind >= 0)).any()):
        raw.fail(int(np.argmax(bad)), spec.item_id, "the id is missing; give one or drop the row")
    found = pc.fill_null(pc.index_in(item_text, value_set=item_ids), -1)
    item = found.to_numpy(zero_copy_only=False).astype(np.int32)
    item[kind == _SEARCH] = -1
    value = raw.numbers(spec.value) if spec.value else np.full(n, np.nan)
    query = raw.text(spec.query) if spec.query else None
    keep = np.ones(n, dtype=bool)

    def drop(bad: npt.NDArray[np.bool_], reason: str) -> None:
        books.drop("events", reason, int((bad & keep).sum()))
        keep[bad] = False

    drop(kind < 0, "kind not mapped")
    drop((item < 0) & (kind != _SEARCH), "item not in the catalogue")
    if query is not None:
        drop((kind == _SEARCH) & query.is_null().to_numpy(zero_copy_only=False), "search without a query")
    key = _keys(raw, spec, position, drop)
    infinite = np.isinf(value)
    books.repair("events", "value is infinite, now missing", int((infinite & keep).sum()))
    value[infinite] = np.nan
    return EventRows(user, item, kind, key, value, query, keep)


def read_events(
    spec: EventsTable, root: Path, item_ids: list[str], split: SplitConfig, books: Accounts, seed: int
) -> EventLog:
    """Read, clean, sort and split the events table.

    Raises:
        InputError: names file, row and field.
    """
    raw = read_table(spec, root, columns_of(spec), "events")
    raw, position = explode(raw, spec)
    books.read("events", raw.n_read)
    books.drop("events", "not chosen by where", raw.n_read - len(raw))
    rows = check_rows(raw, position, spec, pa.array(item_ids, pa.string()), books)
    users = pc.dictionary_encode(rows.user)
    user = users.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    item, kind, key, keep = rows.item, rows.kind, rows.key, rows.keep
    query = rows.query.to_pylist() if rows.query is not None else None
    if spec.time:
        busy = keep & _too_busy(user, key, keep, spec.max_per_day)
        books.drop("events", too_busy(spec), int(busy.sum()))
        keep &= ~busy
    again = _repeated(user, item, kind, key, query, keep, bool(spec.time or spec.order))
    books.drop("events", REPEATED, int(again.sum()))
    keep &= ~again
    if not keep.any():
        raise none_usable(raw.files[0], raw.n_read, books)
    order = np.flatnonzero(keep)
    order = order[np.lexsort((order, key[order], user[order]))]
    texts = users.dictionary.to_pylist()
    log = EventLog(
        users=texts,
        starts=np.concatenate([[0], np.cumsum(np.bincount(user[order], minlength=len(texts)))]).astype(np.int64),
        user=user[order],
        item=item[order],
        kind=kind[order],
        key=key[order],
        timed=spec.time is not None,
        value=rows.value[order],
        query=None if query is None else [query[i] for i in order],
        list_id=_picked(raw, spec.list_id, order),
        split=np.full(len(order), UNKNOWN, dtype=np.int8),
        item_ids=item_ids,
        codes={text: code for code, text in enumerate(texts)},
    )
    books.keep("events", len(order))
    _assign_splits(log, raw, spec, split, order, seed)
    return log


def too_busy(spec: EventsTable) -> str:
    """Why a bot's events are dropped."""
    return f"shopper with more than {spec.max_per_day} events on one day"


def none_usable(file: Path, n_read: int, books: Accounts) -> InputError:
    return InputError(
        f"{file}: none of {n_read} events is usable ({books.reasons('events')}); correct events in the mapping"
    )


def explode(raw: RawTable, spec: EventsTable) -> tuple[RawTable, Int64 | None]:
    """One row per shopper with a list of items becomes one row per event; its place in the list is its order."""
    column = raw.columns[spec.item_id]
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return raw, None
    parents = pc.list_parent_indices(column)
    columns = {name: c.take(parents) for name, c in raw.columns.items() if name != spec.item_id}
    columns[spec.item_id] = pc.list_flatten(column)
    index = parents.to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=len(raw)))])[index]
    n_read = len(index) + raw.n_read - len(raw)
    return RawTable(raw.part, columns, raw.files, raw.starts, raw.rows[index], raw.lines, n_read), np.arange(
        len(index)
    ) - first


def _kinds(raw: RawTable, spec: EventsTable) -> npt.NDArray[np.int8]:
    if not spec.kind_column:
        return np.full(len(raw), KINDS.index(spec.kind), dtype=np.int8)
    table = {kind.value: code for code, kind in enumerate(KINDS)} | {t: KINDS.index(k) for t, k in spec.kinds.items()}
    named = pc.dictionary_encode(raw.text(spec.kind_column))
    codes = np.array([*(table.get(text, -1) for text in named.dictionary.to_pylist()), -1], dtype=np.int8)
    return codes[pc.fill_null(named.indices, len(codes) - 1).to_numpy(zero_copy_only=False)]


def _keys(raw: RawTable, spec: EventsTable, position: Int64 | None, drop: object) -> Int64:
    """What the events are sorted by."""
    if spec.time:
        key = raw.times(spec.time, spec.time_unit)
        drop(key == NO_TIME, "time missing")  # type: ignore[operator]
        absurd = (key < parse_time(spec.earliest, "s")) | (key > int((time.time() + 86_400) * 1e6))
        drop(absurd & (key != NO_TIME), f"time before {spec.earliest} or in the future")  # type: ignore[operator]
        return key
    if position is not None:
        return position
    if spec.order:
        numbers = raw.numbers(spec.order)
        if np.isnan(numbers).any():
            raw.fail(int(np.argmax(np.isnan(numbers))), spec.order, "the order is missing; give a number")
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    return np.arange(len(raw), dtype=np.int64)


def _too_busy(
    user: npt.NDArray[np.int32], key: Int64, keep: npt.NDArray[np.bool_], limit: int
) -> npt.NDArray[np.bool_]:
    day = key // DAY
    kept = np.flatnonzero(keep)
    if not len(kept):
        return np.zeros(len(user), dtype=bool)
    _, first, counts = np.unique(
        np.stack([user[kept].astype(np.int64), day[kept]]), axis=1, return_index=True, return_counts=True
    )
    return np.isin(user, user[kept[first[counts > limit]]])


def _repeated(
    user: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    kind: npt.NDArray[np.int8],
    key: Int64,
    query: list[str | None] | None,
    keep: npt.NDArray[np.bool_],
    ordered: bool,
) -> npt.NDArray[np.bool_]:
    """Rows that say again that this shopper did this to this item at this moment."""
    result = np.zeros(len(user), dtype=bool)
    kept = np.flatnonzero(keep)
    if not ordered or not len(kept):
        return result
    text = np.zeros(len(kept), dtype=np.int64)
    if query is not None:
        known: dict[str | None, int] = {}
        text = np.array([known.setdefault(query[i], len(known)) for i in kept], dtype=np.int64)
    rows = np.stack([user[kept].astype(np.int64), item[kept], kind[kept], key[kept], text])
    order = np.lexsort((kept, *rows))
    same = (rows[:, order[1:]] == rows[:, order[:-1]]).all(axis=0)
    result[kept[order[1:][same]]] = True
    return result


def _picked(raw: RawTable, column: str | None, order: Int64) -> list[str | None] | None:
    return raw.ids(column, required=False).take(pa.array(order)).to_pylist() if column else None


def _assign_splits(
    log: EventLog, raw: RawTable, spec: EventsTable, split: SplitConfig, order: Int64, seed: int
) -> None:
    if split.by == "column" and spec.split:
        values = raw.texts(spec.split)
        codes, wrong = from_names(values, split.names)
        if wrong is not None:
            raw.fail(wrong, spec.split, f"{values[wrong]!r} is not train, valid or test; map it in split.names")
        log.split = codes[order]
    elif split.by == "leave_one_out":
        log.split = leave_one_out(log.starts)
    elif split.by == "time":
        if not log.timed:
            raise InputError(
                "split.by is time, but the events have none; map events.time, or split by user or leave_one_out"
            )
        log.cuts = time_cuts(log.key, split.valid, split.test)
        log.split = by_time(log.key, log.cuts)
    elif split.by == "user":
        log.split = by_share(log.users, split.valid, split.test, seed)[log.user]

"""Result lists that the shop's tables already hold: one row per list, or one row per (list, item).

    drafts = read_lists(spec, root, "lists.0", context);   drafts = read_pairs(spec, root, "pairs.0", context)

Errors: a missing id, an empty list, an unknown candidate, a label that is missing, NaN or without a grade, a history
event at or after the list's time, columns of different lengths, a list whose rows are in two splits.
Dropped, counted: an item that comes again in a list of pairs (its best label is kept).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from reshelf.data.accounts import Accounts
from reshelf.data.drafts import ANYONE, Draft
from reshelf.data.history import KINDS, EventLog
from reshelf.data.mapping import ListsTable, Outcomes, PairsTable, SplitConfig
from reshelf.data.readers import NO_TIME, RawTable, parse_time, read_table, to_datetime
from reshelf.data.schema import MAX_GRADE, Event, EventKind
from reshelf.data.splits import UNKNOWN, from_names
from reshelf.data.store import SPLITS, explain

GRADE_OF_KIND = {EventKind.CLICK: 1, EventKind.CART: 2, EventKind.PURCHASE: 3}
_HOUR = 3_600_000_000


@dataclass(frozen=True)
class Context:
    """What reading lists needs to know of the rest of the import."""

    rows: dict[str, int]
    """Item id to row of the catalogue."""
    queries: dict[str, str] | None
    """Query id to text."""
    log: EventLog | None
    split: SplitConfig
    rating_thresholds: Sequence[float]
    books: Accounts


def event_grades(log: EventLog, rating_thresholds: Sequence[float]) -> npt.NDArray[np.int8]:
    """Grade of every event: by its kind, a rating by its stars."""
    table = np.array([GRADE_OF_KIND.get(kind, 0) for kind in KINDS], dtype=np.int8)
    grades = table[log.kind]
    rated = log.kind == KINDS.index(EventKind.RATING)
    grades[rated] = np.searchsorted(np.asarray(rating_thresholds), log.value[rated], side="right")
    grades[rated & np.isnan(log.value)] = 0
    return grades


def _columns(spec: Outcomes, *more: str | None) -> list[str]:
    shared = (
        spec.list_id,
        spec.user_id,
        spec.time,
        spec.query,
        spec.query_id,
        spec.history,
        spec.history_times,
        spec.split,
    )
    return [c for c in (*shared, *more) if c]


class _Shared:
    """The columns that lists and pairs share, read once."""

    def __init__(self, spec: Outcomes, raw: RawTable, context: Context) -> None:
        n = len(raw)
        self.spec, self.raw, self.context = spec, raw, context
        self.list_ids = raw.ids(spec.list_id).to_pylist() if spec.list_id else None
        self.users = raw.ids(spec.user_id).to_pylist() if spec.user_id else [ANYONE] * n
        self.times = raw.times(spec.time, spec.time_unit) if spec.time else np.full(n, NO_TIME, dtype=np.int64)
        if spec.time and (self.times == NO_TIME).any():
            raw.fail(int(np.argmax(self.times == NO_TIME)), spec.time, "the time is missing; give one or drop the row")
        self.queries = self._queries(n)
        self.splits = np.full(n, SPLITS.index(spec.in_split) if spec.in_split else UNKNOWN, dtype=np.int8)
        if spec.split:
            names = raw.texts(spec.split)
            self.splits, wrong = from_names(names, context.split.names)
            if wrong is not None:
                raw.fail(wrong, spec.split, f"{names[wrong]!r} is not train, valid or test; map it in split.names")
        self.histories = raw.lists(spec.history, "|") if spec.history else None
        self.history_times = raw.lists(spec.history_times, "|") if spec.history_times else None

    def _queries(self, n: int) -> list[str]:
        spec, raw = self.spec, self.raw
        if spec.query:
            return [text or "" for text in raw.texts(spec.query)]
        if not spec.query_id:
            return [""] * n
        ids, table = raw.ids(spec.query_id).to_pylist(), self.context.queries or {}
        for i, query_id in enumerate(ids):
            if query_id not in table:
                raw.fail(i, spec.query_id, f"query {query_id!r} is not in the queries table")
        return [table[query_id] for query_id in ids]

    def rows_of(self, ids: Sequence[str | None], i: int, column: str) -> npt.NDArray[np.int32]:
        """Catalogue rows of ids that must be known."""
        rows = self.context.rows
        for item_id in ids:
            if item_id not in rows:
                what = "an item id is missing" if not item_id else f"item {item_id!r} is not in the catalogue"
                self.raw.fail(i, column, f"{what}; add it to items or leave it out")
        return np.fromiter((rows[item_id] for item_id in ids if item_id), dtype=np.int32, count=len(ids))

    def history(self, i: int) -> tuple[Event, ...] | None:
        if self.histories is None:
            return None
        values = self.histories[i] or []
        times: list[Any] = (self.history_times[i] or []) if self.history_times is not None else [None] * len(values)
        if len(times) != len(values):
            self.raw.fail(i, self.spec.history_times or "", f"{len(times)} times for {len(values)} history items")
        events = []
        for place, (value, moment) in enumerate(zip(values, times)):
            column = self.spec.history or ""
            try:
                fields: dict[str, Any] = {"kind": EventKind.PURCHASE, "item_id": None}
                fields |= dict(value) if isinstance(value, dict) else {"item_id": _id(value)}
                moment = fields.pop("time", None) if moment is None else moment
                micro = NO_TIME if moment is None else parse_time(moment, self.spec.time_unit)
                event = Event.model_validate({**fields, "time": to_datetime(micro)})
            except ValidationError as error:
                self.raw.fail(i, column, f"event {place}, {explain(error)}")
            except (ValueError, TypeError, OverflowError):
                self.raw.fail(i, column, f"event {place}: {moment!r} is not a time")
            if micro != NO_TIME and self.times[i] != NO_TIME and micro >= self.times[i]:
                self.raw.fail(
                    i,
                    column,
                    f"event {place} at {event.time} is not before the list's time {to_datetime(int(self.times[i]))}",
                )
            if event.item_id is not None:
                self.rows_of([event.item_id], i, column)
            events.append(event)
        return tuple(events)


def _id(value: Any) -> str:
    return (
        str(int(value))
        if isinstance(value, float) and value.is_integer()
        else ""
        if value is None
        else str(value).strip()
    )


def _grade(spec: Outcomes, value: Any, raw: RawTable, i: int, column: str) -> int:
    missing = (
        value is None or value == "" or (isinstance(value, float) and math.isnan(value)) or str(value).lower() == "nan"
    )
    if missing:
        raw.fail(i, column, "the label is missing or NaN; give one or drop the row")
    if spec.grades:
        text = _id(value)
        if text not in spec.grades:
            raw.fail(i, column, f"label {text!r} has no grade; add it to grades in the mapping")
        return spec.grades[text]
    try:
        number = float(value)
    except (TypeError, ValueError):
        raw.fail(i, column, f"label {value!r} is not a number; map it with grades")
    if spec.thresholds:
        return sum(number >= least for least in spec.thresholds)
    if number not in range(MAX_GRADE + 1):
        raw.fail(i, column, f"label {value!r} is not 0, 1, 2 or 3; map it with grades or thresholds")
    return int(number)


def read_lists(spec: ListsTable, root: Path, part: str, context: Context) -> list[Draft]:
    """One draft per row.

    Raises:
        InputError: see above; names file, row and field.
    """
    books = context.books
    raw = read_table(
        spec, root, _columns(spec, spec.candidates, spec.labels, spec.target, spec.scores, spec.positions), part
    )
    books.read(part, raw.n_read)
    books.drop(part, "not chosen by where", raw.n_read - len(raw))
    shared = _Shared(spec, raw, context)
    candidates = raw.lists(spec.candidates, spec.list_separator)
    parallel = {
        name: raw.lists(column, spec.list_separator)
        for name in ("labels", "scores", "positions")
        if (column := getattr(spec, name))
    }
    targets = raw.ids(spec.target).to_pylist() if spec.target else None
    drafts = []
    for i, values in enumerate(candidates):
        if not values:
            raw.fail(i, spec.candidates, "the list is empty; a list needs at least one candidate")
        ids = [_id(v) for v in values]
        for name, columns in parallel.items():
            if len(columns[i] or []) != len(ids):
                raw.fail(i, getattr(spec, name), f"{len(columns[i] or [])} values for {len(ids)} candidates")
        seen: set[str] = set()
        for item_id in ids:
            if item_id in seen:
                raw.fail(i, spec.candidates, f"item {item_id!r} is there twice in one list")
            seen.add(item_id)
        cut = spec.max_candidates or len(ids)
        scores = _floats(parallel["scores"][i], raw, i, spec.scores)[:cut] if spec.scores else None
        places = _floats(parallel["positions"][i], raw, i, spec.positions)[:cut] if spec.positions else None
        if targets is None:
            grades = [_grade(spec, v, raw, i, spec.labels or "") for v in parallel["labels"][i] or []][:cut]
            ids = ids[:cut]
        else:
            ids = ids[:cut]
            if targets[i] not in ids:
                if spec.missing_target == "drop":
                    books.drop(part, "target not among the candidates", 1)
                    continue
                if spec.missing_target == "append" and scores is None and places is None:
                    ids = [*ids[: cut - 1], targets[i]] if spec.max_candidates else [*ids, targets[i]]
                    books.repair(part, "target appended to the candidates", 1)
                else:
                    books.repair(part, "target not among the candidates, kept with no positive", 1)
            grades = [MAX_GRADE if item_id == targets[i] else 0 for item_id in ids]
        drafts.append(
            Draft(
                list_id=shared.list_ids[i] if shared.list_ids else f"{part}-{int(raw.rows[i])}",
                place=raw.place(i),
                user_id=shared.users[i],
                time=int(shared.times[i]),
                query=shared.queries[i],
                split=int(shared.splits[i]),
                candidates=shared.rows_of(ids, i, spec.candidates),
                labels=np.array(grades, dtype=np.int8),
                history=shared.history(i),
                scores=scores,
                positions=None if places is None else places.astype(np.int64),
            )
        )
    books.keep(part, len(drafts))
    return drafts


def _floats(values: list[Any] | None, raw: RawTable, i: int, column: str | None) -> npt.NDArray[np.float64]:
    try:
        result = np.array([float(v) for v in values or []], dtype=np.float64)
    except (TypeError, ValueError):
        raw.fail(i, column or "", "holds something that is no number")
    if not np.isfinite(result).all():
        raw.fail(i, column or "", "value is NaN or infinite")
    return result


def read_pairs(spec: PairsTable, root: Path, part: str, context: Context) -> list[Draft]:
    """Rows of one list put together, in order of position, else of score, else of the file.

    Raises:
        InputError: see above; names file, row and field.
    """
    books = context.books
    raw = read_table(spec, root, _columns(spec, spec.item_id, spec.label, spec.score, spec.position), part)
    books.read(part, raw.n_read)
    books.drop(part, "not chosen by where", raw.n_read - len(raw))
    shared = _Shared(spec, raw, context)
    items = raw.ids(spec.item_id).to_pylist()
    scores = raw.numbers(spec.score) if spec.score else None
    places = raw.numbers(spec.position) if spec.position else None
    for name, values in ((spec.score, scores), (spec.position, places)):
        if name and values is not None and np.isnan(values).any():
            raw.fail(int(np.argmax(np.isnan(values))), name, "the number is missing or NaN")
    labels = _labels(spec, raw, shared, items, context)
    kept = 0
    drafts = []
    for rows in _groups(spec, shared, len(raw)):
        first = rows[0]
        if places is not None:
            rows = sorted(rows, key=lambda i: places[i])
        elif scores is not None:
            rows = sorted(rows, key=lambda i: -scores[i])
        other = next((i for i in rows if shared.splits[i] != shared.splits[first]), None)
        if other is not None:
            raw.fail(
                other,
                spec.split or "",
                f"the list is in {SPLITS[shared.splits[first]]} by {raw.place(first)}; a list has one split",
            )
        best: dict[str, int] = {}
        chosen = []
        for i in rows:
            if items[i] in best:
                books.drop(part, "item again in the same list, best label kept", 1)
            else:
                chosen.append(i)
            best[items[i]] = max(best.get(items[i], 0), int(labels[i]))
        kept += len(chosen)
        drafts.append(
            Draft(
                list_id=shared.list_ids[first] if shared.list_ids else f"{part}-{int(raw.rows[first])}",
                place=raw.place(first),
                user_id=shared.users[first],
                time=int(shared.times[first]),
                query=shared.queries[first],
                split=int(shared.splits[first]),
                candidates=np.concatenate([shared.rows_of([items[i]], i, spec.item_id) for i in chosen]),
                labels=np.array([best[items[i]] for i in chosen], dtype=np.int8),
                history=shared.history(first),
                scores=None if scores is None else scores[chosen],
                positions=None if places is None else places[chosen].astype(np.int64),
            )
        )
    books.keep(part, kept)
    return drafts


def _groups(spec: PairsTable, shared: _Shared, n: int) -> list[list[int]]:
    """Rows of each list, lists in order of first appearance, rows in file order (sessions: in time order)."""
    if spec.each_row:
        return [[i] for i in range(n)]
    groups: dict[Any, list[int]] = {}
    if spec.session_hours is not None:
        pause = spec.session_hours * _HOUR
        latest: dict[Any, int] = {}
        number: dict[Any, int] = {}
        for i in np.argsort(shared.times, kind="stable").tolist():
            who = (shared.users[i], shared.queries[i], int(shared.splits[i]))
            if who not in latest or shared.times[i] - latest[who] > pause:
                number[who] = number.get(who, -1) + 1
            latest[who] = int(shared.times[i])
            groups.setdefault((who, number[who]), []).append(i)
        return sorted(groups.values(), key=min)
    for i in range(n):
        key = (
            shared.list_ids[i]
            if shared.list_ids
            else (shared.users[i], shared.queries[i], int(shared.times[i]), int(shared.splits[i]))
        )
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _labels(
    spec: PairsTable, raw: RawTable, shared: _Shared, items: list[str], context: Context
) -> npt.NDArray[np.int8]:
    if spec.label:
        column = raw.columns[spec.label].to_pylist()
        return np.fromiter(
            (_grade(spec, v, raw, i, spec.label) for i, v in enumerate(column)), dtype=np.int8, count=len(raw)
        )
    log = context.log
    assert log is not None, "a mapping without labels has events"
    grades = event_grades(log, context.rating_thresholds)
    labels = np.zeros(len(raw), dtype=np.int8)
    if log.list_id is not None and shared.list_ids is not None:
        best: dict[tuple[str, int], int] = {}
        for e in np.flatnonzero(grades).tolist():
            if (list_id := log.list_id[e]) is not None:
                best[list_id, int(log.item[e])] = max(int(grades[e]), best.get((list_id, int(log.item[e])), 0))
        for i, item_id in enumerate(items):
            labels[i] = best.get((shared.list_ids[i], context.rows.get(item_id, -1)), 0)
        return labels
    window = int(spec.outcome_hours * _HOUR)
    for i, item_id in enumerate(items):
        user = log.codes.get(shared.users[i])
        if user is None or shared.times[i] == NO_TIME:
            continue
        span = log.span(user)
        low, high = np.searchsorted(log.key[span], [shared.times[i], shared.times[i] + window])
        found = np.arange(span.start + low, span.start + high)
        found = found[log.item[found] == context.rows.get(item_id, -1)]
        if len(found):
            labels[i] = grades[found].max()
    return labels

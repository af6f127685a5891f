"""Result lists that the shop's tables already hold, one row per list; `data.importing.pairs` reads one row per product.

    drafts = read_lists(spec, root, "lists.0", context)

Errors: a missing id, an empty list, an unknown candidate, a label that is missing, NaN or without a grade, a history
event at or after the list's time, columns of different lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from reshelf.data.dataset_folder import SPLITS, problem_of
from reshelf.data.importing.drafts import ANYONE, Draft
from reshelf.data.importing.history import EventLog
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.mapping import ListsTable, Outcomes, SplitConfig
from reshelf.data.importing.readers import NO_TIME, RawTable, parse_time, read_table, to_datetime
from reshelf.data.importing.splits import UNKNOWN, from_names
from reshelf.data.schema import MAX_GRADE, Event, EventKind

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999, in microseconds


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


def columns_of(spec: Outcomes, *more: str | None) -> list[str]:
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


class Shared:
    """The columns that lists and pairs share, read once."""

    def __init__(self, spec: Outcomes, raw: RawTable, context: Context) -> None:
        n = len(raw)
        self.spec, self.raw, self.context = spec, raw, context
        self.list_id = raw.ids(spec.list_id) if spec.list_id else None
        self.user = raw.ids(spec.user_id) if spec.user_id else pa.array([ANYONE] * n, pa.string())
        self.times = raw.times(spec.time, spec.time_unit) if spec.time else np.full(n, NO_TIME, dtype=np.int64)
        if spec.time and (self.times == NO_TIME).any():
            raw.fail(int(np.argmax(self.times == NO_TIME)), spec.time, "the time is missing; give one or drop the row")
        absurd = (self.times != NO_TIME) & ((self.times < _FIRST) | (self.times > _LAST))
        if spec.time and absurd.any():
            raw.fail(int(np.argmax(absurd)), spec.time, "the time is not in the years 1 to 9999; correct time_unit")
        self.query = self._query(n)
        self.splits = np.full(n, SPLITS.index(spec.in_split) if spec.in_split else UNKNOWN, dtype=np.int8)
        if spec.split:
            names = raw.texts(spec.split)
            self.splits, wrong = from_names(names, context.split.names)
            if wrong is not None:
                raw.fail(wrong, spec.split, f"{names[wrong]!r} is not train, valid or test; map it in split.names")
        self.histories = raw.lists(spec.history, "|") if spec.history else None
        self.history_times = raw.lists(spec.history_times, "|") if spec.history_times else None

    def _query(self, n: int) -> pa.StringArray:
        spec, raw = self.spec, self.raw
        if spec.query:
            return raw.text(spec.query).fill_null("")
        if not spec.query_id:
            return pa.array([""] * n, pa.string())
        ids, table = raw.ids(spec.query_id).to_pylist(), self.context.queries or {}
        for i, query_id in enumerate(ids):
            if query_id not in table:
                raw.fail(i, spec.query_id, f"query {query_id!r} is not in the queries table")
        return pa.array([table[query_id] for query_id in ids], pa.string())

    @cached_property
    def list_ids(self) -> list[str] | None:
        return None if self.list_id is None else self.list_id.to_pylist()

    @cached_property
    def users(self) -> list[str]:
        return self.user.to_pylist()

    @cached_property
    def queries(self) -> list[str]:
        return self.query.to_pylist()

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
                self.raw.fail(i, column, f"event {place}, {problem_of(error)}")
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


def grade(spec: Outcomes, value: Any, raw: RawTable, i: int, column: str) -> int:
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
        spec, root, columns_of(spec, spec.candidates, spec.labels, spec.target, spec.scores, spec.positions), part
    )
    books.read(part, raw.n_read)
    books.drop(part, "not chosen by where", raw.n_read - len(raw))
    shared = Shared(spec, raw, context)
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
            grades = [grade(spec, v, raw, i, spec.labels or "") for v in parallel["labels"][i] or []][:cut]
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

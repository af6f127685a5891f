"""Result lists from tables with one row per (list, product): judged results, or a shop's impression log.

    drafts = read_pairs(spec, root, "pairs.0", context)

Errors: a missing id, an unknown product, a position below 1, a label that is missing, NaN or without a grade, a list
whose rows are in two splits. Dropped, counted: a product that comes again in its list (its best label is kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.drafts import Draft
from reshelf.data.importing.given import Context, Shared, columns_of, grade
from reshelf.data.importing.history import KINDS
from reshelf.data.importing.mapping import PairsTable
from reshelf.data.importing.readers import NO_TIME, RawTable, read_table
from reshelf.data.schema import EventKind

GRADE_OF_KIND = {EventKind.CLICK: 1, EventKind.CART: 2, EventKind.PURCHASE: 3}
AGAIN = "item again in the same list, best label kept"
HOUR = 3_600_000_000


def event_grades(
    kind: npt.NDArray[np.int8], value: npt.NDArray[np.float64], rating_thresholds: Sequence[float]
) -> npt.NDArray[np.int8]:
    """Grade of every event: by its kind, a rating by its stars."""
    table = np.array([GRADE_OF_KIND.get(kind, 0) for kind in KINDS], dtype=np.int8)
    grades = table[kind]
    rated = kind == KINDS.index(EventKind.RATING)
    grades[rated] = np.searchsorted(np.asarray(rating_thresholds), value[rated], side="right")
    grades[rated & np.isnan(value)] = 0
    return grades


@dataclass
class Shown:
    """What can be said of the rows of a pairs table one by one; arrays run parallel."""

    shared: Shared
    item: npt.NDArray[np.int32]
    """Row of the catalogue."""
    places: npt.NDArray[np.float64] | None
    scores: npt.NDArray[np.float64] | None


def shown_columns(spec: PairsTable) -> list[str]:
    """The columns that are read."""
    return columns_of(spec, spec.item_id, spec.label, spec.score, spec.position)


def check_shown(spec: PairsTable, raw: RawTable, context: Context) -> Shown:
    """Check shown products one by one.

    Raises:
        InputError: see above; names file, row and field.
    """
    shared = Shared(spec, raw, context)
    items = raw.ids(spec.item_id)
    scores = raw.numbers(spec.score) if spec.score else None
    places = raw.numbers(spec.position) if spec.position else None
    for name, values in ((spec.score, scores), (spec.position, places)):
        if name and values is not None and not np.isfinite(values).all():
            raw.fail(int(np.argmax(~np.isfinite(values))), name, "the number is missing, NaN or infinite")
    if spec.position and places is not None and (places < 1).any():
        wrong = int(np.argmax(places < 1))
        raw.fail(wrong, spec.position, f"{places[wrong]:g} is no position; count positions from 1")
    known = pc.fill_null(pc.index_in(items, value_set=pa.array(context.rows, pa.string())), -1)
    item = known.to_numpy(zero_copy_only=False).astype(np.int32)
    if (item < 0).any():
        wrong = int(np.argmax(item < 0))
        what = f"item {items[wrong].as_py()!r} is not in the catalogue; add it to items or leave it out"
        raw.fail(wrong, spec.item_id, what)
    return Shown(shared, item, places, scores)


def read_pairs(spec: PairsTable, root: Path, part: str, context: Context) -> list[Draft]:
    """Rows of one list put together, in order of position, else of score, else of the file.

    Raises:
        InputError: see above; names file, row and field.
    """
    books = context.books
    raw = read_table(spec, root, shown_columns(spec), part)
    books.read(part, raw.n_read)
    books.drop(part, "not chosen by where", raw.n_read - len(raw))
    shown = check_shown(spec, raw, context)
    shared, items, scores, places = shown.shared, shown.item.tolist(), shown.scores, shown.places
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
            raw.fail(other, spec.split or "", two_splits(int(shared.splits[first]), raw.place(first)))
        best: dict[int, int] = {}
        chosen = []
        for i in rows:
            if items[i] in best:
                books.drop(part, AGAIN, 1)
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
                candidates=shown.item[chosen],
                labels=np.array([best[items[i]] for i in chosen], dtype=np.int8),
                history=shared.history(first),
                scores=None if scores is None else scores[chosen],
                positions=None if places is None else places[chosen].astype(np.int64),
            )
        )
    books.keep(part, kept)
    return drafts


def two_splits(split: int, place: str) -> str:
    """What is wrong with a row in another split than the first row of its list."""
    return f"the list is in {SPLITS[split]} by {place}; a list has one split"


def _groups(spec: PairsTable, shared: Shared, n: int) -> list[list[int]]:
    """Rows of each list, lists in order of first appearance, rows in file order (sessions: in time order)."""
    if spec.each_row:
        return [[i] for i in range(n)]
    groups: dict[Any, list[int]] = {}
    if spec.session_hours is not None:
        pause = spec.session_hours * HOUR
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
    spec: PairsTable, raw: RawTable, shared: Shared, items: list[int], context: Context
) -> npt.NDArray[np.int8]:
    if spec.label:
        column = raw.columns[spec.label].to_pylist()
        return np.fromiter(
            (grade(spec, v, raw, i, spec.label) for i, v in enumerate(column)), dtype=np.int8, count=len(raw)
        )
    log = context.log
    assert log is not None, "a mapping without labels has events"
    grades = event_grades(log.kind, log.value, context.rating_thresholds)
    labels = np.zeros(len(raw), dtype=np.int8)
    if log.list_id is not None and shared.list_ids is not None:
        best: dict[tuple[str, int], int] = {}
        for e in np.flatnonzero(grades).tolist():
            if (list_id := log.list_id[e]) is not None:
                best[list_id, int(log.item[e])] = max(int(grades[e]), best.get((list_id, int(log.item[e])), 0))
        for i, item in enumerate(items):
            labels[i] = best.get((shared.list_ids[i], item), 0)
        return labels
    window = int(spec.outcome_hours * HOUR)
    for i, item in enumerate(items):
        user = log.codes.get(shared.users[i])
        if user is None or shared.times[i] == NO_TIME:
            continue
        span = log.span(user)
        low, high = np.searchsorted(log.key[span], [shared.times[i], shared.times[i] + window])
        found = np.arange(span.start + low, span.start + high)
        found = found[log.item[found] == item]
        if len(found):
            labels[i] = grades[found].max()
    return labels

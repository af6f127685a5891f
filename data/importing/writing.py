"""Writes the lists of an import, some thousand at a time, as the Parquet files of a data set folder.

    write_split(folder / "train.parquet", chosen, material, work)       # returns facts about the lists, for report.json

Histories are slices of the sorted events, candidates slices of the sorted candidates: nothing is looked up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.dataset_folder import LIST_SCHEMA
from reshelf.data.importing.database import Arrays, Work
from reshelf.data.importing.events import KINDS
from reshelf.data.importing.features import Features
from reshelf.data.importing.items import Catalogue, DatedPrices
from reshelf.data.importing.list_histories import ListHistories
from reshelf.data.importing.lists import Lists
from reshelf.data.importing.mapping import ListsTable, Mapping, PairsTable
from reshelf.data.importing.shown import parts_of
from reshelf.data.importing.splits import TRAIN
from reshelf.data.importing.tables import Source
from reshelf.data.signals import Ask
from reshelf.data.signals.event_log import NEVER, NO_TIME, EventLog, Int64, lower_bound, ranges
from reshelf.errors import InputError

LISTS_AT_ONCE = 4096
_HISTORY = LIST_SCHEMA.field("history").type


@dataclass
class Material:
    """All that lists are made of."""

    lists: Lists
    log: EventLog
    histories: ListHistories
    catalogue: Catalogue
    queries: pa.StringArray
    users: pa.StringArray
    list_ids: pa.StringArray
    """By `Lists.number`."""
    contexts: pa.StringArray | None
    """JSON, by `Lists.number`, of lists that were shown; None where no table has a context."""
    own: tuple[Int64, Int64]
    """Outcomes that are earlier than their list, and so not its history: list (number, ascending) and event."""
    mapping: Mapping
    prices: DatedPrices | None
    features: Features | None
    sources: Sequence[Source]

    @cached_property
    def _from_table(self) -> npt.NDArray[np.bool_]:
        """Which lists bring their history."""
        return np.isin(self.lists.part, list(self.histories.parts))

    @cached_property
    def by_split(self) -> npt.NDArray[np.bool_]:
        """Which lists have as history the events of earlier splits: those that no moment places among the events."""
        return ~self._from_table & (self.lists.time == NO_TIME) & (self.lists.part >= 0)

    @cached_property
    def bounds(self) -> tuple[Int64, Int64]:
        """Begin and end of what can be the history of each list, in the log or, behind it, in those of the lists."""
        lists, log, histories = self.lists, self.log, self.histories
        known = lists.user < log.users
        row = np.where(known, lists.user, 0)
        low = np.where(known, log.starts[row] if log.users else 0, 0)
        high = np.where(known, log.starts[row + 1] if log.users else 0, 0)
        timed = ~self.by_split
        high = np.where(timed, lower_bound(log.key, low, high, lists.time), high)
        number = np.where(self._from_table, lists.number, 0)
        low = np.where(self._from_table, len(log) + histories.starts[number], low)
        return low, np.where(self._from_table, len(log) + histories.starts[number + 1], high)

    def check_order(self) -> None:
        """Raises:
        InputError: nothing says which events came before a list.
        """
        low, high = self.bounds
        first = np.minimum(low, max(len(self.log) - 1, 0))
        lost = self.by_split & (low < high)
        if not lost.any():
            return
        unknown = (self.lists.split == TRAIN) | (self.log.split[first] < 0)
        for i in np.flatnonzero(lost & unknown)[:1]:
            raise InputError(
                f"{self.sources[self.lists.part[i]].place(int(self.lists.row[i]))}: nothing says which events came "
                f"before this list; map its time, its history, or the events' split"
            )

    def past(self, chosen: Int64, most: int) -> tuple[Int64, Int64]:
        """The latest `most` events before each chosen list, oldest first: their rows, and where each list's begin
        (int64 [lists + 1])."""
        low, high = (bound[chosen] for bound in self.bounds)
        hidden = self._hidden(chosen, low, high)
        size = np.minimum(high - low, most + hidden)
        rows, owner = ranges(high - size, size)
        if hidden.any():
            keep = self._visible(chosen, rows, owner)
            rows, owner = rows[keep], owner[keep]
        counts = np.bincount(owner, minlength=len(chosen))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        if hidden.any():
            keep = np.arange(len(rows)) >= (offsets[1:] - most)[owner]
            rows, counts = rows[keep], np.minimum(counts, most)
            offsets = np.concatenate([[0], np.cumsum(counts)])
        return rows, offsets

    @cached_property
    def _undone_before(self) -> Int64 | None:
        """How many events of the log before each row were ever taken back; None where none was."""
        undone = self.log.undone != NEVER
        return np.concatenate([[0], np.cumsum(undone)]) if undone.any() else None

    def _hidden(self, chosen: Int64, low: Int64, high: Int64) -> Int64:
        """At least as many events of each range as must not be seen."""
        numbers = self.lists.number[chosen]
        own = np.searchsorted(self.own[0], numbers, side="right") - np.searchsorted(self.own[0], numbers)
        if self._undone_before is not None:
            end = len(self.log)
            own = own + self._undone_before[np.minimum(high, end)] - self._undone_before[np.minimum(low, end)]
        return np.where(self.by_split[chosen], high - low, own)

    def _visible(self, chosen: Int64, rows: Int64, owner: Int64) -> npt.NDArray[np.bool_]:
        """Not an outcome of its own list, not taken back before it, not of a later split."""
        if not len(self.log):
            return np.ones(len(rows), dtype=bool)
        brought = rows >= len(self.log)
        at = np.minimum(rows, len(self.log) - 1)
        time = self.lists.time[chosen][owner]
        keep = (self.log.undone[at] >= time) & ((time != NO_TIME) | (self.log.undone[at] == NEVER))
        total = len(self.log)
        keep &= ~np.isin(self.lists.number[chosen][owner] * total + rows, self.own[0] * total + self.own[1])
        by_split = self.by_split[chosen][owner]
        keep &= ~by_split | (self.log.split[at] < self.lists.split[chosen][owner])
        return keep | brought

    def of_events(self, name: str, rows: Int64) -> npt.NDArray[Any]:
        """A column of events, of the log or of the histories that lists bring."""
        log = getattr(self.log, name)
        if not len(self.histories.events[name]):
            return np.asarray(log[rows])
        brought = rows >= len(log)
        result = np.empty(len(rows), dtype=log.dtype)
        result[~brought] = log[rows[~brought]]
        result[brought] = self.histories.events[name][rows[brought] - len(log)]
        return result


def write_split(path: Path, chosen: Int64, material: Material, work: Work) -> dict[str, Any]:
    """Write the lists with these places; returns facts about them."""
    task = work.progress.add_task(f"writing {path.name}", total=len(chosen))
    sums: Counter[str] = Counter()
    writer = pq.ParquetWriter(path, LIST_SCHEMA, compression="zstd", use_dictionary=False)  # zstd finds what repeats
    with writer, ThreadPoolExecutor(1) as behind:
        written: Future[None] | None = None
        for start in range(0, len(chosen), LISTS_AT_ONCE):
            some = chosen[start : start + LISTS_AT_ONCE]
            batch = _batch(some, material, sums)  # while the one before is compressed
            if written:
                written.result()
            written = behind.submit(writer.write_batch, batch)
            work.progress.advance(task, len(some))
        if written:
            written.result()
    lists = material.lists
    asked = np.unique(lists.query[chosen])
    empty = sum(not text for text in material.queries.take(pa.array(asked)).to_pylist())
    return {
        "lists": len(chosen),
        "users": len(np.unique(lists.user[chosen])),
        "queries": len(asked) - empty,
        "candidates_per_list": sums["candidates"] / len(chosen),
        "events_per_history": sums["events"] / len(chosen),
        "empty_histories": sums["empty_histories"],
        "without_positive": sums["without_positive"],
        "share_with_history": 1 - sums["empty_histories"] / len(chosen),
        "share_with_outcome": 1 - sums["without_positive"] / len(chosen),
        **{f"grade_{grade}": sums[f"grade_{grade}"] for grade in range(4)},
    }


def _batch(chosen: Int64, material: Material, sums: Counter[str]) -> pa.RecordBatch:
    lists, mapping = material.lists, material.mapping
    size = lists.size[chosen]
    rows, _ = ranges(lists.start[chosen], size)
    candidates = {name: values[rows] for name, values in lists.candidates.items()}
    offsets = np.concatenate([[0], np.cumsum(size)])
    past, begins = material.past(chosen, max(mapping.max_history, 0))
    features = _add_features(chosen, candidates, offsets, (past, begins), material)
    sums["candidates"] += len(rows)
    sums["events"] += len(past)
    sums["empty_histories"] += int((np.diff(begins) == 0).sum())
    sums["without_positive"] += int((np.maximum.reduceat(candidates["label"], offsets[:-1]) == 0).sum())
    for grade, count in enumerate(np.bincount(candidates["label"], minlength=4).tolist()):
        sums[f"grade_{grade}"] += count
    scored, placed = (np.array(flags)[lists.part[chosen]] for flags in _has_columns(mapping))
    scored &= ~np.isnan(np.add.reduceat(candidates["score"], offsets[:-1]))  # null where a list brings none
    placed &= np.minimum.reduceat(candidates["position"], offsets[:-1]) > 0
    columns = {
        "list_id": material.list_ids.take(pa.array(lists.number[chosen])),
        "user_id": material.users.take(pa.array(lists.user[chosen])),
        "time": _times(_shown_times(chosen, material)),
        "query": material.queries.take(pa.array(lists.query[chosen])),
        "context": _contexts(lists.number[chosen], material),
        "history": pa.ListArray.from_arrays(begins.astype(np.int32), _events(past, material)),
        "candidates": _lists(offsets, material.catalogue.ids.take(pa.array(candidates["item"]))),
        "labels": _lists(offsets, pa.array(candidates["label"], pa.int64())),
        "scores": _lists(offsets, pa.array(candidates["score"]), scored),
        "positions": _lists(offsets, pa.array(candidates["position"]), placed),
        "features": features,
        "prices": _prices(candidates, offsets, np.repeat(_shown_times(chosen, material), size), material),
        "utility": pa.nulls(len(chosen), LIST_SCHEMA.field("utility").type),
    }
    return pa.RecordBatch.from_arrays(
        [columns[field.name].cast(field.type) for field in LIST_SCHEMA], schema=LIST_SCHEMA
    )


def _has_columns(mapping: Mapping) -> tuple[list[bool], list[bool]]:
    """Whether the lists of each table have scores, and positions; at the end those made from events."""
    scored, placed = [], []
    for _, spec in parts_of(mapping):
        score = spec.scores if isinstance(spec, ListsTable) else spec.score if isinstance(spec, PairsTable) else None
        place = (
            spec.positions if isinstance(spec, ListsTable) else spec.position if isinstance(spec, PairsTable) else None
        )
        scored.append(bool(score or mapping.signals.first_stage))
        placed.append(bool(place))
    return [*scored, bool(mapping.signals.first_stage)], [*placed, False]


def _shown_times(chosen: Int64, material: Material) -> Int64:
    """A list made from events without times has a rank, and no time."""
    times = material.lists.time[chosen]
    return times if material.log.timed else np.where(material.lists.part[chosen] < 0, NO_TIME, times)


def _times(micro: Int64) -> pa.Array:
    kind = LIST_SCHEMA.field("time").type
    return pa.array(micro, pa.int64(), mask=micro == NO_TIME).view(kind)


def _contexts(numbers: Int64, material: Material) -> pa.Array:
    """Named texts; those that a table has nothing for are left out."""
    texts = material.contexts
    rows = [
        [] if texts is None or number >= len(texts) else json.loads(texts[number].as_py() or "{}").items()
        for number in numbers.tolist()
    ]
    named = [[{"name": name, "value": text} for name, text in row if text and text.strip()] for row in rows]
    return pa.array(named, LIST_SCHEMA.field("context").type)


def _prices(candidates: Arrays, offsets: Int64, times: Int64, material: Material) -> pa.Array:
    """Prices at the list's time; null for lists in which all are those of the catalogue."""
    price = candidates["price"]
    if material.prices is not None:
        price = np.where(np.isnan(price), material.prices.at(candidates["item"], times), price)
    if np.isnan(price).all():
        return pa.nulls(len(offsets) - 1, LIST_SCHEMA.field("prices").type)
    values = np.where(np.isnan(price), material.catalogue.prices[candidates["item"]], price)
    unknown = np.isnan(values) | np.isinf(values) | (values < 0)
    dated = np.logical_or.reduceat(~np.isnan(price), offsets[:-1])
    return _lists(offsets, pa.array(values, mask=unknown), dated)


def _events(rows: Int64, material: Material) -> pa.StructArray:
    """Events as they are stored."""
    item, query, value = (material.of_events(name, rows) for name in ("item", "query", "value"))
    key = material.of_events("key", rows)
    if not material.log.timed and len(material.log):
        key = np.where(rows < len(material.log), NO_TIME, key)
    search = item < 0
    columns = [
        pa.array([kind.value for kind in KINDS]).take(pa.array(material.of_events("kind", rows))),
        _times(key),
        material.catalogue.ids.take(pa.array(item, mask=search)),
        material.queries.take(pa.array(query, mask=~search | (query < 0))),
        pa.array(value, mask=np.isnan(value)),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_HISTORY.value_type))


def _add_features(
    chosen: Int64, candidates: Arrays, offsets: Int64, past: tuple[Int64, Int64], material: Material
) -> pa.Array:
    """Signals as features; where they make the first stage, the candidates are put into its order."""
    spec, features = material.mapping.signals, material.features
    if features is None:
        return pa.array([[]] * len(chosen), LIST_SCHEMA.field("features").type)
    values = features.compute(chosen, _asks(chosen, candidates, offsets, past, material), candidates["label"], offsets)
    if spec.first_stage:
        for i, of_list in enumerate(values):
            span = slice(offsets[i], offsets[i + 1])
            scores = sum((w * of_list[n] for n, w in spec.first_stage.items()), np.zeros(span.stop - span.start))
            order = np.argsort(-scores, kind="stable")
            candidates["score"][span] = scores
            for name in candidates:
                candidates[name][span] = candidates[name][span][order]
            values[i] = {name: of_candidates[order] for name, of_candidates in of_list.items()}
    rows = [[{"name": name, "values": of_list[name]} for name in spec.names] for of_list in values]
    return pa.array(rows, LIST_SCHEMA.field("features").type)


def _asks(
    chosen: Int64, candidates: Arrays, offsets: Int64, past: tuple[Int64, Int64], material: Material
) -> list[Ask]:
    """What signals are computed for: of each list's history as it is written, the items; searches are passed over."""
    log, lists = material.log, material.lists
    rows, begins = past
    items = material.of_events("item", rows).astype(np.int64)
    asks = []
    for i, place in enumerate(chosen.tolist()):
        history = items[begins[i] : begins[i + 1]]
        history = history[history >= 0]
        user = int(lists.user[place])
        leave_out = user if user < log.users and lists.split[place] == TRAIN else -1
        query = material.queries[int(lists.query[place])].as_py()
        time = NO_TIME if lists.part[place] < 0 and not log.timed else int(lists.time[place])
        asks.append(Ask(history, candidates["item"][offsets[i] : offsets[i + 1]], query, time, leave_out))
    return asks


def _lists(offsets: Int64, values: pa.Array, there: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A list column; null for rows that are not `there`."""
    mask = None if there is None else pa.array(~there)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask)

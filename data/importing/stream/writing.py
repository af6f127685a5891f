"""Writes the lists of a streamed import, some thousand at a time, as the Parquet files of a data set folder.

    write_split(folder / "train.parquet", chosen, source, work)       # returns facts about the lists, for report.json

Histories are slices of the sorted events, candidates slices of the sorted candidates: nothing is looked up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.dataset_folder import LIST_SCHEMA
from reshelf.data.importing.history import KINDS, EventLog, lower_bound
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.splits import TRAIN
from reshelf.data.importing.stream.events import Events
from reshelf.data.importing.stream.lists import Lists
from reshelf.data.importing.stream.work import Columns, Work
from reshelf.data.signals import Ask, Signals

LISTS_AT_ONCE = 4096
Int64 = npt.NDArray[np.int64]
_HISTORY = LIST_SCHEMA.field("history").type


@dataclass
class Source:
    """All that lists are made of."""

    lists: Lists
    events: Events
    item_ids: pa.StringArray
    queries: pa.StringArray
    users: pa.StringArray
    list_ids: pa.StringArray
    mapping: Mapping
    signals: Signals | None

    @cached_property
    def low(self) -> Int64:
        """Where the events of each list's shopper begin, int64 [L]."""
        return self._bounds[0]

    @cached_property
    def high(self) -> Int64:
        """Where those strictly before the list end, int64 [L]."""
        low, high = self._bounds
        return lower_bound(self.events.log.key, low, high, self.lists.time)

    @cached_property
    def _bounds(self) -> tuple[Int64, Int64]:
        """Begin and end of the shopper's events; empty for a shopper without any."""
        starts, user = self.events.log.starts, self.lists.user
        known = user < len(starts) - 1
        row = np.where(known, user, 0)
        return np.where(known, starts[row], 0), np.where(known, starts[row + 1], 0)

    @cached_property
    def own(self) -> tuple[Int64, Int64]:
        """Events that happened on a list but before it, its outcome and not its history: list (ascending) and event."""
        number = np.full(len(self.list_ids) + 1, -1, dtype=np.int64)
        number[self.lists.list] = np.arange(len(self.lists))
        at = np.flatnonzero(self.events.list >= 0)
        of = number[self.events.list[at]]
        at, of = at[of >= 0], of[of >= 0]
        before = (self.low[of] <= at) & (at < self.high[of])
        order = np.argsort(of[before], kind="stable")
        return of[before][order], at[before][order]

    def past(self, chosen: Int64, most: int) -> tuple[Int64, Int64]:
        """The latest `most` events before each chosen list, oldest first: their rows, and where each list's begin
        (int64 [lists + 1])."""
        own_list, own_event = self.own
        own = np.searchsorted(own_list, chosen, side="right") - np.searchsorted(own_list, chosen)
        high = self.high[chosen]
        size = np.minimum(high - self.low[chosen], most + own)
        rows, owner = _ranges(high - size, size)
        if own.any():
            total = len(self.events.log)
            keep = ~np.isin(chosen[owner] * total + rows, own_list * total + own_event)
            rows, owner = rows[keep], owner[keep]
        counts = np.bincount(owner, minlength=len(chosen))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        if own.any():
            keep = np.arange(len(rows)) >= (offsets[1:] - most)[owner]
            rows, counts = rows[keep], np.minimum(counts, most)
            offsets = np.concatenate([[0], np.cumsum(counts)])
        return rows, offsets


def write_split(path: Path, chosen: Int64, source: Source, work: Work) -> dict[str, Any]:
    """Write the lists with these numbers; returns facts about them."""
    task = work.progress.add_task(f"writing {path.name}", total=len(chosen))
    sums: Counter[str] = Counter()
    with pq.ParquetWriter(path, LIST_SCHEMA, compression="zstd") as writer:
        for start in range(0, len(chosen), LISTS_AT_ONCE):
            some = chosen[start : start + LISTS_AT_ONCE]
            writer.write_batch(_batch(some, source, sums))
            work.progress.advance(task, len(some))
    lists = source.lists
    asked = np.unique(lists.query[chosen])
    empty = sum(not text for text in source.queries.take(asked).to_pylist())
    return {
        "lists": len(chosen),
        "users": len(np.unique(lists.user[chosen])),
        "queries": len(asked) - empty,
        "candidates_per_list": sums["candidates"] / len(chosen),
        "events_per_history": sums["events"] / len(chosen),
        "empty_histories": sums["empty_histories"],
        "without_positive": sums["without_positive"],
        **{f"grade_{grade}": sums[f"grade_{grade}"] for grade in range(4)},
    }


def _batch(chosen: Int64, source: Source, sums: Counter[str]) -> pa.RecordBatch:
    lists, log = source.lists, source.events.log
    size = lists.size[chosen]
    rows, _ = _ranges(lists.start[chosen], size)
    candidates = {name: values[rows] for name, values in lists.candidates.items()}
    offsets = np.concatenate([[0], np.cumsum(size)])
    features = _add_signals(chosen, candidates, offsets, source)
    most = max(source.mapping.max_history, 0)
    past, begins = source.past(chosen, most)
    sums["candidates"] += len(rows)
    sums["events"] += len(past)
    sums["empty_histories"] += int((np.diff(begins) == 0).sum())
    sums["without_positive"] += int((np.maximum.reduceat(candidates["label"], offsets[:-1]) == 0).sum())
    for grade, count in enumerate(np.bincount(candidates["label"], minlength=4).tolist()):
        sums[f"grade_{grade}"] += count
    specs = source.mapping.pairs
    scored = np.array([bool(spec.score or source.mapping.signals.first_stage) for spec in specs])[lists.part[chosen]]
    placed = np.array([bool(spec.position) for spec in specs])[lists.part[chosen]]
    columns = {
        "list_id": source.list_ids.take(lists.list[chosen]),
        "user_id": source.users.take(lists.user[chosen]),
        "time": pa.array(lists.time[chosen]).view(LIST_SCHEMA.field("time").type),
        "query": source.queries.take(lists.query[chosen]),
        "history": pa.ListArray.from_arrays(begins.astype(np.int32), _events(past, source, log)),
        "candidates": _lists(offsets, source.item_ids.take(candidates["item"])),
        "labels": _lists(offsets, pa.array(candidates["label"], pa.int64())),
        "scores": _lists(offsets, pa.array(candidates["score"]), scored),
        "positions": _lists(offsets, pa.array(candidates["position"]), placed),
        "features": features,
        "utility": pa.nulls(len(chosen), LIST_SCHEMA.field("utility").type),
    }
    return pa.RecordBatch.from_arrays(
        [columns[field.name].cast(field.type) for field in LIST_SCHEMA], schema=LIST_SCHEMA
    )


def _events(rows: Int64, source: Source, log: EventLog) -> pa.StructArray:
    """Events as they are stored."""
    item, query, value = log.item[rows], source.events.query[rows], log.value[rows]
    search = item < 0
    columns = [
        pa.array([kind.value for kind in KINDS]).take(pa.array(log.kind[rows])),
        pa.array(log.key[rows]).view(LIST_SCHEMA.field("time").type),
        source.item_ids.take(pa.array(item, mask=search)),
        source.queries.take(pa.array(query, mask=~search | (query < 0))),
        pa.array(value, mask=np.isnan(value)),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_HISTORY.value_type))


def _add_signals(chosen: Int64, candidates: Columns, offsets: Int64, source: Source) -> pa.Array:
    """Signals as features; where they make the first stage, the candidates are put into its order."""
    spec, signals = source.mapping.signals, source.signals
    if signals is None:
        return pa.array([[]] * len(chosen), LIST_SCHEMA.field("features").type)
    names = list(dict.fromkeys([*spec.names, *spec.first_stage]))
    values = signals.compute(_asks(chosen, candidates, offsets, source), names)
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


def _asks(chosen: Int64, candidates: Columns, offsets: Int64, source: Source) -> list[Ask]:
    """What signals are computed for: the latest items of each history, searches passed over."""
    log, lists, wanted = source.events.log, source.lists, source.mapping.signals.history
    asks = []
    for i, number in enumerate(chosen.tolist()):
        available = int(source.high[number] - source.low[number])
        most = 4 * wanted if wanted > 0 else available
        while True:
            past = log.item[source.past(chosen[i : i + 1], most)[0]]
            history = past[past >= 0].astype(np.int64)
            if len(history) >= wanted > 0 or most >= available:
                break
            most *= 4
        user = int(lists.user[number])
        leave_out = user if user < len(log.users) and lists.split[number] == TRAIN else -1
        query = source.queries[int(lists.query[number])].as_py()
        items = candidates["item"][offsets[i] : offsets[i + 1]]
        asks.append(Ask(history, items, query, int(lists.time[number]), leave_out))
    return asks


def _ranges(starts: Int64, sizes: Int64) -> tuple[Int64, Int64]:
    """The numbers start, start + 1, … of every range one after another, and which range each belongs to."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    owner = np.repeat(np.arange(len(starts)), sizes)
    return np.arange(offsets[-1]) + (starts - offsets[:-1])[owner], owner


def _lists(offsets: Int64, values: pa.Array, there: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A list column; null for rows that are not `there`."""
    mask = None if there is None else pa.array(~there)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask)

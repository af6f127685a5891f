"""The signals of an import: what `signals` in a mapping asks for, computed for some lists at a time.

features = make_features(work, mapping.signals, catalogue, log, lists, queries)
features.compute(chosen, asks, labels, offsets)[0]["popularity"]       # float64 [K]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.importing.database import Work
from reshelf.data.importing.items import Catalogue
from reshelf.data.importing.lists import Lists
from reshelf.data.importing.rules import SignalsConfig
from reshelf.data.importing.splits import TRAIN
from reshelf.data.signals import COUNTED, READS, Ask, Clicks, Signals, Texts
from reshelf.data.signals.event_log import NO_TIME, EventLog, Int64
from reshelf.data.signals.kept import keep_signals
from reshelf.data.signals.list_outcomes import OUTCOMES, Outcomes, Shown
from reshelf.data.signals.query_clicks import QUERY_CLICKS
from reshelf.errors import InputError

_DESCRIPTION = 2000
"""Characters of a description that count."""


@dataclass(frozen=True)
class Features:
    """Signals of one import."""

    names: list[str]
    signals: Signals
    outcomes: Outcomes | None
    lists: Lists

    def compute(
        self, chosen: Int64, asks: Sequence[Ask], labels: npt.NDArray[np.int8], offsets: Int64
    ) -> list[dict[str, npt.NDArray[np.float64]]]:
        """For every chosen list, its signals by name, float64 [K] each.

        Args:
            chosen: places of the lists.
            labels: of all their candidates, those of list i from `offsets[i]` to `offsets[i + 1]`.
        """
        values = self.signals.compute(asks, [name for name in self.names if name in READS])
        if self.outcomes is not None:
            for i, place in enumerate(chosen.tolist()):
                wanted = labels[offsets[i] : offsets[i + 1]] > 0
                one = Shown(str(self.lists.user[place]), asks[i].candidates, wanted)
                values[i] |= self.outcomes.compute([one], bool(self.lists.split[place] == TRAIN))[0]
        return values

    def keep(self, folder: Path, item_ids: pa.StringArray, first_stage: Mapping[str, float]) -> None:
        """Write what the signals are computed from, for later lists (`data.signals.kept`)."""
        keep_signals(folder, self.signals, item_ids, self.names, first_stage)


def make_features(
    work: Work, spec: SignalsConfig, catalogue: Catalogue, log: EventLog | None, lists: Lists, queries: pa.StringArray
) -> Features | None:
    """What a mapping asks for; None where it asks for nothing.

    Args:
        queries: text of every query's code.

    Raises:
        InputError: a signal is unknown, or there are no train events, or clicks of queries, to count.
    """
    names = list(dict.fromkeys([*spec.names, *spec.first_stage]))
    every = (*READS, *OUTCOMES)
    unknown = [n for n in names if n not in every]
    if unknown:
        raise InputError(f"signals: {unknown[0]!r} is unknown; there are {', '.join(every)}")
    if not names:
        return None
    counted = [n for n in names if n in COUNTED]
    if log is None and counted:
        raise InputError(f"signals: {counted[0]} is counted on events, and the mapping has no events table")
    if counted and log is not None and not (log.split == TRAIN).any():
        raise InputError(
            f"signals: {counted[0]} is counted on train events, and there are none; "
            "map events.split, or set split.by to time, user or leave_one_out"
        )
    by_query = [name for name in names if name in QUERY_CLICKS]
    clicks = _query_clicks(work, by_query[0], log, lists, queries) if by_query else None
    signals = Signals.of(_texts(catalogue), log, spec.history, spec.decay, spec.recent_days, clicks)
    outcomes = None
    if any(name in OUTCOMES for name in names):
        outcomes = Outcomes(
            [_shown(lists, place) for place in np.flatnonzero(lists.split == TRAIN).tolist()],
            catalogue.categories,
        )
    return Features(names, signals, outcomes, lists)


def _texts(catalogue: Catalogue) -> Texts:
    named, full, whole = [], [], []
    with pq.ParquetFile(catalogue.file) as file:
        for batch in file.iter_batches(columns=["title", "brand", "category", "description"]):
            for row in batch.to_pylist():
                named.append(" ".join((row["title"], row["brand"] or "")))
                full.append(" ".join((named[-1], *row["category"])))
                whole.append(" ".join((full[-1], (row["description"] or "")[:_DESCRIPTION])))
    return Texts(named, full, catalogue.categories, whole)


def _query_clicks(work: Work, name: str, log: EventLog | None, lists: Lists, queries: pa.StringArray) -> Clicks:
    """Clicks and better, of whatever split, with the event's own query, else that of the list it is an outcome of."""
    if log is None or not log.timed or (lists.time == NO_TIME).any():
        raise InputError(f"signals: {name} is counted as of a list's time; map the time of events and lists")
    moment = log.key.copy()  # an outcome earlier than its own list counts from that list on
    for event, time in work.fetch(
        "SELECT own.event, max(h.time) FROM own JOIN head h USING (number) GROUP BY own.event"
    ):
        moment[event] = max(moment[event], time)
    event = np.flatnonzero((log.grade > 0) & (log.item >= 0) & (log.query >= 0))
    of_lists = work.arrays(
        "SELECT q.code AS query, t.event FROM touch t JOIN head h USING (number) JOIN query q ON q.text = h.query "
        "JOIN log l ON l.rowid = t.event WHERE l.query < 0 AND t.grade > 0 AND h.query <> '' ORDER BY t.event, t.number"
    )
    event = np.concatenate([event, of_lists["event"].astype(np.int64)])
    query = np.concatenate([log.query[event[: len(event) - len(of_lists["event"])]], of_lists["query"]])
    if not len(event):
        raise InputError(
            f"signals: {name} is counted on clicks with a query, and there are none; map events.query, or leave it out "
            "of signals.names"
        )
    event, query = (values[np.argsort(moment[event], kind="stable")] for values in (event, query))
    return Clicks(queries.take(pa.array(query)), log.item[event].astype(np.int64), moment[event])


def _shown(lists: Lists, place: int) -> Shown:
    span = slice(int(lists.start[place]), int(lists.start[place] + lists.size[place]))
    candidates = lists.candidates
    return Shown(str(lists.user[place]), candidates["item"][span], candidates["label"][span] > 0)

"""Numbers per candidate that a shop has anyway, counted on the train split: popularity, co-occurrence, text match.

    signals = Signals.of(texts, log, history=10, decay=0.8);  values = signals.compute(asks, ["popularity", "cobought"])

popularity   log(1 + shoppers who took the item)
recent       log(1 + events on the item of late): in the `recent_days` before the list; without times, how many
             shoppers took it last
cobought     cosine between the shoppers who took the candidate and those who took a history item, summed
taste        the same between factors of the shopper-item matrix, which also sees items never taken together
match        TF-IDF cosine between the candidate's title and brand and those of the history
category_match  how much of the history lies in the candidate's categories: mean over them of the share of history items
query_match, bm25, query_chars, query_cover, query_topic: see `data.signals.query_text`; query_clicks and more: see
`data.signals.query_clicks`; approval, leniency and more: see `data.signals.list_outcomes`

Recent history counts more: an item has `decay` times the weight of the next younger one. So that a number means the
same in training as later, a train list is scored as if its own shopper had never been counted: without that, the
target of a train list would have been bought together with its history at least once. For counts the shopper's share
is taken out exactly, in closed form; factors are made without the shopper's fold.

All are computed from tables (`data.signals.tables`), which an import makes and a reranker keeps (`data.signals.kept`):
the same code gives the same values for the lists of an import and for a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from reshelf.data.signals.event_log import NO_TIME, EventLog, Float64, lower_bound
from reshelf.data.signals.live import Since
from reshelf.data.signals.making import Clicks, Texts, TrainEvents, item_factors, make_tables
from reshelf.data.signals.query_clicks import CLICK_TABLES, QUERY_CLICKS, QueryClicks
from reshelf.data.signals.query_text import QUERY_READS, QUERY_SIGNALS, QuerySignals
from reshelf.data.signals.tables import Tables, dots

__all__ = ["Ask", "Clicks", "Signals", "Texts"]

READS: dict[str, tuple[str, ...]] = {
    "popularity": ("counts",), "recent": ("times", "last_counts"), "cobought": ("takers",), "taste": ("factors",),
    "match": ("title_words",), "category_match": ("categories",),
    **QUERY_READS, **dict.fromkeys(QUERY_CLICKS, CLICK_TABLES),
}  # fmt: skip
"""Every signal here, and the tables that it is computed from."""
PERSONAL = ("cobought", "taste", "match", "category_match")
"""Those that are 0 for a shopper without history."""
FOLLOWING = ("popularity", "recent", "cobought", *QUERY_CLICKS)
"""Those that follow events since the tables were made (`Ask.since`)."""
COUNTED = ("popularity", "recent", "cobought", "taste")
"""Those that need events."""
_FOLDS = 5
_DAY = 86_400_000_000


@dataclass(frozen=True)
class Ask:
    """One list to compute signals for."""

    history: npt.NDArray[np.int64]
    """Rows of the catalogue, oldest first."""
    candidates: npt.NDArray[np.int32]
    query: str = ""
    time: int = NO_TIME
    """Microseconds since 1970 UTC."""
    leave_out: int = -1
    """Code of the shopper whose own events are not counted: that of a train list; -1 for nobody."""
    since: Since | None = None
    """What happened after the tables were made."""

    def new_shoppers(self, items: npt.NDArray[np.integer]) -> Float64 | float:
        """Who took each item after the tables were made, and not before."""
        return 0.0 if self.since is None else self.since.shoppers(items)


class Signals:
    """Signals over the tables of one catalogue.

    Args:
        tables: those that `READS` names for what will be computed.
        history: how many of the latest history items count.
        decay: weight of one history item against the next younger one.
        recent_days: what `recent` looks back on, where events have times.
        events: of an import, whose train lists leave their own shopper out.
    """

    def __init__(
        self, tables: Tables, history: int = 10, decay: float = 0.8, recent_days: float = 30.0,
        events: TrainEvents | None = None,
    ) -> None:  # fmt: skip
        self.tables: Any = tables
        self.history, self.decay, self.recent_days = history, decay, recent_days
        self._events = events
        self._queries = QuerySignals(tables)

    @classmethod
    def of(
        cls, texts: Texts, log: EventLog | None, history: int = 10, decay: float = 0.8, recent_days: float = 30.0,
        clicks: Clicks | None = None,
    ) -> Signals:  # fmt: skip
        """Signals of an import: tables are made when they are first read.

        Args:
            texts: of every item.
            log: the events, of which the train split is counted; None leaves only the text signals.
            clicks: of all splits, for those of `data.signals.query_clicks`.
        """
        events = TrainEvents(log, len(texts.named))
        return cls(make_tables(texts, events, clicks), history, decay, recent_days, events)

    @property
    def counted_until(self) -> int | None:
        """Time of the last event of an import that counts, microseconds since 1970 UTC; None where no log says."""
        return None if self._events is None else self._events.end

    def compute(self, asks: Sequence[Ask], names: Iterable[str]) -> list[dict[str, Float64]]:
        """For every list, its signals by name, float64 [K] each."""
        columns = {name: self._one(name, asks) for name in names} if asks else {}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(asks))]

    def _one(self, name: str, asks: Sequence[Ask]) -> list[Float64]:
        if name == "popularity":
            counts = self.tables["counts"]
            taken = [counts[a.candidates] - self._own(a, a.candidates) + a.new_shoppers(a.candidates) for a in asks]
            return [np.log1p(one) for one in taken]
        if name in QUERY_CLICKS:
            columns = zip(*((a.query, a.candidates, a.time, a.since) for a in asks), strict=True)
            return self._clicks.compute(name, *columns)
        if name in QUERY_SIGNALS:
            return self._queries.compute(name, [a.query for a in asks], [a.candidates for a in asks])
        if name == "taste":
            return self._taste(asks)
        if name == "match":
            return self._match(asks)
        if name == "category_match":
            return self._category_match(asks)
        if name == "cobought":
            return self._cobought(asks)
        if name == "recent":
            return self._recent_by_time(asks) if len(self.tables["times"].values) else self._recent_by_order(asks)
        raise ValueError(f"there is no signal {name!r}")

    def _own(self, ask: Ask, items: npt.NDArray[np.integer]) -> Float64:
        """1 where the shopper to leave out took the item."""
        if ask.leave_out < 0 or self._events is None:
            return np.zeros(len(items))
        taken = self._events.taken
        row = taken.indices[taken.indptr[ask.leave_out] : taken.indptr[ask.leave_out + 1]]
        at = np.minimum(np.searchsorted(row, items), max(len(row) - 1, 0))
        return (row[at] == items).astype(np.float64) if len(row) else np.zeros(len(items))

    def _weights(self, ask: Ask) -> tuple[npt.NDArray[np.int64], Float64]:
        """The latest history items and their weights; the very latest weighs one."""
        recent = ask.history[-self.history :]
        weights = self.decay ** np.arange(len(recent) - 1, -1, -1, dtype=np.float64)
        return recent, weights

    def _recent_by_order(self, asks: Sequence[Ask]) -> list[Float64]:
        """How many shoppers took the item last, as far as the train split goes."""
        counts, result = self.tables["last_counts"], []
        for ask in asks:
            own = self._events.last[ask.leave_out] if self._events is not None and ask.leave_out >= 0 else -1
            result.append(np.log1p(counts[ask.candidates] - (ask.candidates == own) + ask.new_shoppers(ask.candidates)))
        return result

    def _recent_by_time(self, asks: Sequence[Ask]) -> list[Float64]:
        """Train events strictly before the list, in a window that ends with it or with the train split."""
        times = self.tables["times"]
        sizes = [len(ask.candidates) for ask in asks]
        items = np.concatenate([ask.candidates for ask in asks])
        ends = [self._end if ask.since is None else max(self._end, ask.since.last + 1) for ask in asks]
        moments = [end if ask.time == NO_TIME else min(ask.time, end) for ask, end in zip(asks, ends, strict=True)]
        now = np.repeat(moments, sizes)
        low, high = times.starts[items], times.starts[items + 1]
        window = int(self.recent_days * _DAY)
        counts = lower_bound(times.values, low, high, now) - lower_bound(times.values, low, high, now - window)
        parts = np.split(counts.astype(np.float64), np.cumsum(sizes)[:-1])
        new = [
            0.0 if ask.since is None else ask.since.events(ask.candidates, moment - window)
            for ask, moment in zip(asks, moments, strict=True)
        ]
        return [np.log1p(part + more) for part, more in zip(parts, new, strict=True)]

    @cached_property
    def _end(self) -> int:
        """The moment after the last train event."""
        return int(self.tables["times"].values.max()) + 1

    @cached_property
    def _shoppers(self) -> int:
        """How many there are."""
        known = int(self.tables["takers"].values.max(initial=-1)) + 1
        return known if self._events is None else max(known, self._events.taken.shape[0])

    def _cobought(self, asks: Sequence[Ask]) -> list[Float64]:
        """Weighted sum over the history of cosine(candidate, history item), as sets of the shoppers who took them.

        List by list: who took what of its history, and how many of those took the candidate. A matrix of all items
        with all items would be simpler, and for a shop with a few busy shoppers too large for any memory.
        """
        takers = self.tables["takers"]
        counts_of = np.diff(takers.starts)
        weight_of = np.zeros(self._shoppers)  # of every shopper, for one list at a time
        result = []
        for ask in asks:
            recent, weights = self._weights(ask)
            taken = counts_of[recent] - self._own(ask, recent) + ask.new_shoppers(recent)
            scaled = weights / np.sqrt(np.maximum(taken, 1.0))
            for item, weight in zip(recent.tolist(), scaled.tolist()):
                weight_of[takers[item]] += weight
            if ask.leave_out >= 0:
                weight_of[ask.leave_out] = 0.0
            counts = counts_of[ask.candidates] - self._own(ask, ask.candidates) + ask.new_shoppers(ask.candidates)
            found = np.array([weight_of[takers[c]].sum() for c in ask.candidates.tolist()])
            if ask.since is not None:
                found += ask.since.pairs(recent, scaled, ask.candidates)
            # a candidate is not counted as bought together with itself
            found -= ((recent[None, :] == ask.candidates[:, None]) * scaled).sum(axis=1) * counts
            result.append(np.maximum(found, 0.0) / np.sqrt(np.maximum(counts, 1.0)))
            for item in recent.tolist():
                weight_of[takers[item]] = 0.0
        return result

    def _match(self, asks: Sequence[Ask]) -> list[Float64]:
        vectors: sp.csr_matrix = self.tables["title_words"]
        result = []
        for ask in asks:
            recent, weights = self._weights(ask)
            profile = vectors[recent].T @ weights
            length = np.sqrt((profile**2).sum())
            result.append(vectors[ask.candidates] @ (profile / length) if length else np.zeros(len(ask.candidates)))
        return result

    def _category_match(self, asks: Sequence[Ask]) -> list[Float64]:
        every: sp.csr_matrix = self.tables["categories"]
        result = []
        for ask in asks:
            recent, weights = self._weights(ask)
            shares = np.zeros(every.shape[1])
            if len(recent):
                shares = every[recent].sign().T @ (weights / weights.sum())
            result.append(np.asarray(every[ask.candidates] @ shares, dtype=np.float64))
        return result

    def _taste(self, asks: Sequence[Ask]) -> list[Float64]:
        """Sum over the history of the cosine of item factors; a train list uses factors made without its fold."""
        result: list[Float64] = [np.zeros(len(ask.candidates)) for ask in asks]
        mine = np.array([ask.leave_out % _FOLDS if ask.leave_out >= 0 else _FOLDS for ask in asks])
        for fold in np.unique(mine).tolist():
            factors = self._factors(fold)
            for i in np.flatnonzero(mine == fold).tolist():
                recent, weights = self._weights(asks[i])
                profile = (weights[:, None] * factors[recent]).sum(axis=0)
                result[i] = dots(factors, asks[i].candidates, profile)
        return result

    def _factors(self, fold: int) -> Float64:
        """Of the items, [items, factors], made without a fold of the shoppers."""
        if fold == _FOLDS or self._events is None:
            return self.tables["factors"]
        if fold not in self._without_fold:
            taken = self._events.taken
            self._without_fold[fold] = item_factors(taken[np.arange(taken.shape[0]) % _FOLDS != fold])
        return self._without_fold[fold]

    @cached_property
    def _without_fold(self) -> dict[int, Float64]:
        return {}

    @cached_property
    def _clicks(self) -> QueryClicks:
        return QueryClicks(*(self.tables[name] for name in CLICK_TABLES))

"""Whether the model still fits what it is asked: its scores, unknown products, and how often what it expects happens.

    drift = Drift();  registry.register(drift)
    drift.ranked(scores, unknown=2)
    drift.served("shop-a", "u1", {"p3": 0.4, "p7": 0.1})
    drift.happened("shop-a", events)

A served list is open for half an hour. A click, cart or purchase by its shopper is then an outcome of the latest open
list with the product, as in `reshelf experiment report`. When the list closes, its documents are counted by the tenth
that their probability lies in, with the sum of the probabilities and the outcomes: over all tenths, the differences of
the last two are the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015). Nothing that is counted
names a shopper: whose lists are open is in memory only, and forgotten on request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from reshelf.data.schema import OUTCOMES
from reshelf.inference.serving.schemas import SentEvent

SHOWN = 20
"""Documents of a list that count, best first: further down shoppers seldom look."""
_OPEN_S = 1800.0
_LISTS = 5000
"""Open at one time, some 10 MB; while there are as many, further lists are not looked at."""
_EDGES = np.arange(-12.0, 12.5, 1.0)
_BINS = 10


class _OpenList:
    """Probabilities of the documents, and those that something happened to."""

    def __init__(self, until: float, shopper: tuple[str, str], probabilities: Mapping[str, float]) -> None:
        self.until, self.shopper, self.probabilities = until, shopper, probabilities
        self.wanted: set[str] = set()


class Drift(Collector):
    """One server's numbers, written by its event loop alone."""

    def __init__(self) -> None:
        self._scores = np.zeros(len(_EDGES) + 1, dtype=np.int64)
        self._unknown = 0
        self._judged, self._expected, self._wanted = np.zeros((3, _BINS))
        self._closing: deque[_OpenList] = deque()
        self._open: dict[tuple[str, str], list[_OpenList]] = {}

    def ranked(self, scores: np.ndarray, unknown: int) -> None:
        """A list was scored.

        Args:
            scores: float32 [K], raw log-odds.
            unknown: how many of its documents are not in the catalogue.
        """
        self._scores += np.bincount(np.searchsorted(_EDGES, scores), minlength=len(self._scores))
        self._unknown += unknown

    def served(self, tenant: str, user_id: str, probabilities: Mapping[str, float]) -> None:
        """A shopper was sent a list.

        Args:
            probabilities: of its first documents, by item id.
        """
        self._close()
        if len(self._closing) < _LISTS:
            one = _OpenList(time.monotonic() + _OPEN_S, (tenant, user_id), probabilities)
            self._closing.append(one)
            self._open.setdefault(one.shopper, []).append(one)

    def happened(self, tenant: str, events: Iterable[SentEvent]) -> None:
        """Shoppers did something."""
        self._close()
        for event in events:
            if event.kind in OUTCOMES and event.item_id is not None:
                for one in reversed(self._open.get((tenant, event.user_id), [])):
                    if event.item_id in one.probabilities:
                        one.wanted.add(event.item_id)
                        break

    def forget(self, tenant: str, user_id: str) -> None:
        """Keep nothing of a shopper; open lists count for nothing."""
        for one in self._open.pop((tenant, user_id), []):
            one.shopper, one.probabilities = ("", ""), {}

    def _close(self) -> None:
        """Count what is no longer open."""
        now = time.monotonic()
        while self._closing and self._closing[0].until <= now:
            one = self._closing.popleft()
            if (same := self._open.get(one.shopper)) is not None:
                same.remove(one)
                if not same:
                    del self._open[one.shopper]
            chances = np.array(list(one.probabilities.values()))
            bins = np.minimum((chances * _BINS).astype(np.int64), _BINS - 1)
            self._judged += np.bincount(bins, minlength=_BINS)
            self._expected += np.bincount(bins, chances, minlength=_BINS)
            self._wanted += np.bincount(bins, [item in one.wanted for item in one.probabilities], minlength=_BINS)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads."""
        self._close()
        bounds = [*map(str, _EDGES.tolist()), "+Inf"]
        buckets = list(zip(bounds, np.cumsum(self._scores).tolist(), strict=True))
        # No sum: OpenMetrics has none where buckets begin below zero.
        yield HistogramMetricFamily("reshelf_score", "Raw log-odds of ranked documents.", buckets=buckets)
        about = "Ranked documents that are not in the catalogue."
        yield CounterMetricFamily("reshelf_unknown_documents", about, value=self._unknown)
        yield _by_tenth("reshelf_judged_documents", "First documents of closed lists.", self._judged)
        yield _by_tenth("reshelf_expected_outcomes", "Sum of their probabilities.", self._expected)
        yield _by_tenth("reshelf_outcomes", "Of them, clicked, put into a cart or purchased.", self._wanted)


def _by_tenth(name: str, about: str, values: Sequence[float] | np.ndarray) -> Metric:
    family = CounterMetricFamily(name, about, labels=["probability"])
    for tenth, value in enumerate(values):
        family.add_metric([f"{tenth / _BINS:.1f}"], float(value))
    return family

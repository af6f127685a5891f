"""Numbers per candidate that a shop has anyway, counted on the train split: popularity, co-occurrence, text match.

    signals = Signals(texts, log, history=10, decay=0.8);  values = signals.compute(asks, ["popularity", "cobought"])

popularity   log(1 + shoppers who took the item)
recent       log(1 + events on the item of late): in the `recent_days` before the list; without times, how many
             shoppers took it last
cobought     cosine between the shoppers who took the candidate and those who took a history item, summed
taste        the same between factors of the shopper-item matrix, which also sees items never taken together
match        TF-IDF cosine between the candidate's title and brand and those of the history
category_match  how much of the history lies in the candidate's categories: mean over them of the share of history items
query_match  share of the query's words that the candidate's title, brand or category holds
bm25         BM25 of the query against title, brand and category
query_chars, query_cover, query_topic: see `data.signals.query_text`; approval, leniency and more: see
`data.signals.list_outcomes`

Recent history counts more: an item has `decay` times the weight of the next younger one. So that a number means the
same in training as later, a train list is scored as if its own shopper had never been counted: without that, the
target of a train list would have been bought together with its history at least once. For counts the shopper's share
is taken out exactly, in closed form; factors are made without the shopper's fold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd

from reshelf.data.bm25 import Bm25Index, english_words
from reshelf.data.signals.event_log import NEVER, NO_TIME, EventLog, lower_bound
from reshelf.data.signals.query_text import QUERY_SIGNALS, QuerySignals

SIGNALS = (
    "popularity", "recent", "cobought", "taste", "match", "category_match", "query_match", "bm25", *QUERY_SIGNALS,
)  # fmt: skip
PERSONAL = ("cobought", "taste", "match", "category_match")
"""Those that are 0 for a shopper without history."""
COUNTED = ("popularity", "recent", "cobought", "taste")
"""Those that need events."""
TRAIN = 0
_BATCH = 512
_FACTORS = 64
_FOLDS = 5
_DAY = 86_400_000_000
_WORD = re.compile(r"\w+")
Float64 = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class Texts:
    """What text signals read of every item, in catalogue order."""

    named: Sequence[str]
    """Title and brand."""
    full: Sequence[str]
    """Title, brand and category."""
    categories: Sequence[Sequence[str]]
    """Levels of the category path, or categories without an order."""
    whole: Sequence[str]
    """Title, brand, category and the beginning of the description."""


class Signals:
    """Counts and texts of one catalogue.

    Args:
        texts: of every item.
        log: the events, of which the train split is counted; None leaves only the text signals.
        history: how many of the latest history items count.
        decay: weight of one history item against the next younger one.
        recent_days: what `recent` looks back on, where events have times.
    """

    def __init__(
        self, texts: Texts, log: EventLog | None, history: int = 10, decay: float = 0.8, recent_days: float = 30.0
    ) -> None:
        n = len(texts.named)
        self.texts, self.log, self.history, self.decay, self.recent_days = texts, log, history, decay, recent_days
        self.train = _train_rows(log) if log else np.zeros(0, dtype=np.int64)
        user, item = (log.user[self.train], log.item[self.train]) if log else (self.train, self.train)
        shape = (log.users if log else 1, n)
        self.taken = sp.csr_matrix((np.ones(len(item)), (user, item)), shape=shape)
        self.taken.sum_duplicates()
        self.taken.data[:] = 1.0
        self.counts = np.asarray(self.taken.sum(axis=0)).ravel()
        self._factors_of: dict[int, Float64] = {}

    def compute(self, asks: Sequence[Ask], names: Iterable[str]) -> list[dict[str, Float64]]:
        """For every list, its signals by name, float64 [K] each."""
        columns = {name: self._one(name, asks) for name in names} if asks else {}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(asks))]

    def _one(self, name: str, asks: Sequence[Ask]) -> list[Float64]:
        if name == "popularity":
            return [np.log1p(self.counts[a.candidates] - self._own(a, a.candidates)) for a in asks]
        if name == "query_match":
            return self._query_match(asks)
        if name == "bm25":
            return self._bm25(asks)
        if name in QUERY_SIGNALS:
            return self._queries.compute(name, [a.query for a in asks], [a.candidates for a in asks])
        if name == "taste":
            return self._taste(asks)
        if name == "match":
            return self._batched(asks, self._match)
        if name == "category_match":
            return self._category_match(asks)
        if name == "cobought":
            return self._cobought(asks)
        if name == "recent":
            return (
                self._recent_by_time(asks) if self.log is not None and self.log.timed else self._recent_by_order(asks)
            )
        raise ValueError(f"there is no signal {name!r}")

    def _own(self, ask: Ask, items: npt.NDArray[np.integer]) -> Float64:
        """1 where the shopper to leave out took the item."""
        if ask.leave_out < 0:
            return np.zeros(len(items))
        row = self.taken.indices[self.taken.indptr[ask.leave_out] : self.taken.indptr[ask.leave_out + 1]]
        at = np.minimum(np.searchsorted(row, items), max(len(row) - 1, 0))
        return (row[at] == items).astype(np.float64) if len(row) else np.zeros(len(items))

    def _weights(self, ask: Ask) -> tuple[npt.NDArray[np.int64], Float64]:
        """The latest history items and their weights; the very latest weighs one."""
        recent = ask.history[-self.history :]
        weights = self.decay ** np.arange(len(recent) - 1, -1, -1, dtype=np.float64)
        return recent, weights

    @staticmethod
    def _batched(asks: Sequence[Ask], one: Callable[[Sequence[Ask]], list[Float64]]) -> list[Float64]:
        result: list[Float64] = []
        for start in range(0, len(asks), _BATCH):
            result += one(asks[start : start + _BATCH])
        return result

    def _recent_by_order(self, asks: Sequence[Ask]) -> list[Float64]:
        """How many shoppers took the item last, as far as the train split goes."""
        last = np.full(self.taken.shape[0], -1, dtype=np.int64)
        if self.log is not None:
            last[self.log.user[self.train]] = self.log.item[
                self.train
            ]  # sorted by shopper and order: the last one stays
        counts = np.bincount(last[last >= 0], minlength=self.taken.shape[1]).astype(np.float64)
        return [
            np.log1p(counts[a.candidates] - (a.candidates == last[a.leave_out] if a.leave_out >= 0 else 0.0))
            for a in asks
        ]

    def _recent_by_time(self, asks: Sequence[Ask]) -> list[Float64]:
        """Train events strictly before the list, in a window that ends with it or with the train split."""
        key, starts, end = self._by_item
        sizes = [len(ask.candidates) for ask in asks]
        items = np.concatenate([ask.candidates for ask in asks])
        now = np.repeat([end if ask.time == NO_TIME else min(ask.time, end) for ask in asks], sizes)
        low, high = starts[items], starts[items + 1]
        window = int(self.recent_days * _DAY)
        counts = lower_bound(key, low, high, now) - lower_bound(key, low, high, now - window)
        return np.split(np.log1p(counts.astype(np.float64)), np.cumsum(sizes)[:-1])

    @cached_property
    def _by_item(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
        """Times of the train events sorted by item and time, where each item's begin, and the end of all."""
        assert self.log is not None
        order = self.train[np.lexsort((self.log.key[self.train], self.log.item[self.train]))]
        key = self.log.key[order]
        starts = np.searchsorted(self.log.item[order], np.arange(self.taken.shape[1] + 1))
        return key, starts, int(key.max()) + 1 if len(key) else 0

    @cached_property
    def _takers(self) -> sp.csr_matrix:
        """The shoppers of every item: `taken`, turned round."""
        return self.taken.T.tocsr()

    def _cobought(self, asks: Sequence[Ask]) -> list[Float64]:
        """Weighted sum over the history of cosine(candidate, history item), as sets of the shoppers who took them.

        List by list: who took what of its history, and how many of those took the candidate. A matrix of all items
        with all items would be simpler, and for a shop with a few busy shoppers too large for any memory.
        """
        first, who = self._takers.indptr, self._takers.indices
        weight_of = np.zeros(self.taken.shape[0])  # of every shopper, for one list at a time
        result = []
        for ask in asks:
            recent, weights = self._weights(ask)
            scaled = weights / np.sqrt(np.maximum(self.counts[recent] - self._own(ask, recent), 1.0))
            for item, weight in zip(recent.tolist(), scaled.tolist()):
                weight_of[who[first[item] : first[item + 1]]] += weight
            if ask.leave_out >= 0:
                weight_of[ask.leave_out] = 0.0
            counts = self.counts[ask.candidates] - self._own(ask, ask.candidates)
            found = np.array([weight_of[who[first[c] : first[c + 1]]].sum() for c in ask.candidates.tolist()])
            # a candidate is not counted as bought together with itself
            found -= ((recent[None, :] == ask.candidates[:, None]) * scaled).sum(axis=1) * counts
            result.append(np.maximum(found, 0.0) / np.sqrt(np.maximum(counts, 1.0)))
            for item in recent.tolist():
                weight_of[who[first[item] : first[item + 1]]] = 0.0
        return result

    def _profiles(self, asks: Sequence[Ask]) -> sp.csr_matrix:
        """Weights of the history items, float64 [lists, items]."""
        pairs = [self._weights(ask) for ask in asks]
        rows = np.repeat(np.arange(len(pairs)), [len(recent) for recent, _ in pairs])
        columns, weights = (np.concatenate(parts) for parts in zip(*pairs))
        return sp.csr_matrix((weights, (rows, columns)), shape=(len(asks), self.taken.shape[1]))

    @cached_property
    def _vectors(self) -> sp.csr_matrix:
        return TfidfVectorizer(sublinear_tf=True).fit_transform(self.texts.named).tocsr()

    def _match(self, asks: Sequence[Ask]) -> list[Float64]:
        profiles = normalize((self._profiles(asks) @ self._vectors).tocsr())
        sizes = [len(ask.candidates) for ask in asks]
        rows = self._vectors[np.concatenate([ask.candidates for ask in asks])]
        found = np.asarray(rows.multiply(profiles[np.repeat(np.arange(len(asks)), sizes)]).sum(axis=1)).ravel()
        return np.split(found, np.cumsum(sizes)[:-1])

    @cached_property
    def _in_category(self) -> sp.csr_matrix:
        """1 where an item lies in a category, scaled so that an item's row adds up to one: [items, categories]."""
        known = dict.fromkeys(category for path in self.texts.categories for category in path)
        names = {name: code for code, name in enumerate(known)}
        sets = [[names[c] for c in dict.fromkeys(path)] for path in self.texts.categories]
        rows = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
        columns = np.array([code for one in sets for code in one], dtype=np.int64)
        weights = np.repeat([1 / max(len(one), 1) for one in sets], [len(one) for one in sets])
        return sp.csr_matrix((weights, (rows, columns)), shape=(len(sets), max(len(names), 1)))

    def _category_match(self, asks: Sequence[Ask]) -> list[Float64]:
        every = self._in_category
        there = every.sign()
        result = []
        for ask in asks:
            recent, weights = self._weights(ask)
            shares = there[recent].T @ (weights / weights.sum()) if len(recent) else np.zeros(every.shape[1])
            result.append(np.asarray(every[ask.candidates] @ shares, dtype=np.float64))
        return result

    def _taste(self, asks: Sequence[Ask]) -> list[Float64]:
        """Sum over the history of the cosine of item factors; a train list uses factors made without its fold."""
        result: list[Float64] = [np.zeros(len(ask.candidates)) for ask in asks]
        fold_of = np.arange(self.taken.shape[0]) % _FOLDS
        mine = np.array([fold_of[ask.leave_out] if ask.leave_out >= 0 else _FOLDS for ask in asks])
        for fold in np.unique(mine):
            rows = np.flatnonzero(mine == fold)
            if fold not in self._factors_of:
                self._factors_of[fold] = self._factors(self.taken[fold_of != fold])
            factors = self._factors_of[fold]
            profiles = self._profiles([asks[i] for i in rows]) @ factors
            for profile, i in zip(profiles, rows):
                result[i] = factors[asks[i].candidates] @ profile
        return result

    @staticmethod
    def _factors(taken: sp.csr_matrix) -> Float64:
        """Unit vectors of the items, [items, factors]; zero for items nobody took."""
        counts = np.asarray(taken.sum(axis=0)).ravel()
        sizes = np.asarray(taken.sum(axis=1)).ravel()
        scaled = sp.diags(np.maximum(sizes, 1) ** -0.5) @ taken @ sp.diags(np.maximum(counts, 1) ** -0.5)
        size = min(_FACTORS, min(scaled.shape) - 1)
        if size < 1:
            return np.zeros((taken.shape[1], 1))
        _, strength, items = randomized_svd(scaled.tocsr(), size, n_iter=4, random_state=0)
        return normalize(items.T * strength)

    @cached_property
    def _words(self) -> list[frozenset[str]]:
        return [frozenset(_WORD.findall(text.lower())) for text in self.texts.full]

    def _query_match(self, asks: Sequence[Ask]) -> list[Float64]:
        result = []
        for ask in asks:
            query = frozenset(_WORD.findall(ask.query.lower()))
            found = [len(query & self._words[c]) / len(query) if query else 0.0 for c in ask.candidates.tolist()]
            result.append(np.array(found))
        return result

    @cached_property
    def _queries(self) -> QuerySignals:
        return QuerySignals(self.texts.full, self.texts.whole)

    @cached_property
    def _index(self) -> Bm25Index:
        return Bm25Index(self.texts.full, english_words)

    def _bm25(self, asks: Sequence[Ask]) -> list[Float64]:
        result: list[Float64] = [np.zeros(0)] * len(asks)
        scores = np.zeros(0)
        by_query = sorted(range(len(asks)), key=lambda i: asks[i].query)  # the scores of all items, for one query only
        for before, i in zip([-1, *by_query], by_query):
            if before < 0 or asks[before].query != asks[i].query:
                scores = self._index.scores(asks[i].query)
            result[i] = scores[asks[i].candidates]
        return result


def _train_rows(log: EventLog) -> npt.NDArray[np.int64]:
    """Events on items in the train split that nothing took back."""
    counts = (log.item >= 0) & (log.split == TRAIN)
    return np.flatnonzero(counts & (log.undone == NEVER) if len(log.undone) else counts)

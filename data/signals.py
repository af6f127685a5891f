"""Numbers per candidate that a shop has anyway, counted on the train split: popularity, co-occurrence, text match.

    signals = Signals(texts, n_users, user, item);  values = signals.compute(drafts, ["popularity", "cobought"], ...)

So that a number means the same in training as later, a train list is scored as if its own shopper had never been
counted: without that, the target of a train list would have been bought together with its history at least once.
The shopper's share is taken out exactly, in closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

SIGNALS = ("popularity", "cobought", "match", "bm25")
_BATCH = 512
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ask:
    """One list to compute signals for: rows of the catalogue, and the shopper to leave out (-1: nobody)."""

    history: npt.NDArray[np.int64]
    """Oldest first."""
    candidates: npt.NDArray[np.int32]
    query: str = ""
    leave_out: int = -1


class Signals:
    """Counts and texts of one catalogue.

    Args:
        texts: of every item, in catalogue order.
        user, item: int [E], who took which item in the train split; pairs may repeat and count once.
        history: how many of the latest history items count.
        decay: weight of one history item against the next younger one.
    """

    def __init__(
        self,
        texts: Sequence[str],
        user: npt.NDArray[np.integer],
        item: npt.NDArray[np.integer],
        n_users: int,
        history: int = 10,
        decay: float = 0.8,
    ) -> None:
        n = len(texts)
        self.texts, self.history, self.decay = texts, history, decay
        ones = np.ones(len(item), dtype=np.float64)
        self.taken = sp.csr_matrix((ones, (user, item)), shape=(max(n_users, 1), n))
        self.taken.data[:] = 1.0
        self.counts = np.asarray(self.taken.sum(axis=0)).ravel()
        self._together: sp.csr_matrix | None = None
        self._vectors: sp.csr_matrix | None = None

    def compute(self, asks: Sequence[Ask], names: Iterable[str]) -> list[dict[str, Float64]]:
        """For every list, its signals by name, float64 [K] each."""
        columns = {name: self._one(name, asks) for name in names}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(asks))]

    def _one(self, name: str, asks: Sequence[Ask]) -> list[Float64]:
        if name == "popularity":
            return [np.log1p(self.counts[a.candidates] - self._own(a, a.candidates)) for a in asks]
        if name == "cobought":
            return self._batched(asks, self._cobought)
        if name == "match":
            return self._batched(asks, self._match)
        if name == "bm25":
            return self._bm25(asks)
        raise ValueError(name)

    def _own(self, ask: Ask, items: npt.NDArray[np.integer]) -> Float64:
        """1 where the shopper to leave out took the item."""
        if ask.leave_out < 0:
            return np.zeros(len(items))
        row = self.taken.indices[self.taken.indptr[ask.leave_out] : self.taken.indptr[ask.leave_out + 1]]
        return np.isin(items, row).astype(np.float64)

    def _weights(self, ask: Ask) -> tuple[npt.NDArray[np.int64], Float64]:
        """The latest history items and their weights; the very latest weighs one."""
        recent = ask.history[-self.history :]
        weights = self.decay ** np.arange(len(recent) - 1, -1, -1, dtype=np.float64)
        return recent, weights

    @staticmethod
    def _batched(asks: Sequence[Ask], one: object) -> list[Float64]:
        result: list[Float64] = []
        for start in range(0, len(asks), _BATCH):
            result += one(asks[start : start + _BATCH])  # type: ignore[operator]
        return result

    def _cobought(self, asks: Sequence[Ask]) -> list[Float64]:
        """Weighted sum over the history of cosine(candidate, history item), as sets of the shoppers who took them."""
        if self._together is None:
            together = (self.taken.T @ self.taken).tocsr()
            together.setdiag(0)
            together.eliminate_zeros()
            self._together = together
        rows, cols, values, own_sum = [], [], [], np.zeros(len(asks))
        for i, ask in enumerate(asks):
            recent, weights = self._weights(ask)
            own = self._own(ask, recent)
            scaled = weights / np.sqrt(np.maximum(self.counts[recent] - own, 1.0))
            own_sum[i] = float((scaled * own).sum())
            rows.append(np.full(len(recent), i))
            cols.append(recent)
            values.append(scaled)
        shape = (len(asks), self.taken.shape[1])
        profiles = sp.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=shape)
        found = _pick(profiles @ self._together, asks)
        result = []
        for i, ask in enumerate(asks):
            own = self._own(ask, ask.candidates)
            itself = np.zeros(len(own))
            if own.any() and len(ask.history):
                # a candidate is not counted as bought together with itself, so nothing of it is to be taken out
                recent, weights = self._weights(ask)
                mine = self._own(ask, recent)
                scaled = weights * mine / np.sqrt(np.maximum(self.counts[recent] - mine, 1.0))
                itself = ((recent[None, :] == ask.candidates[:, None]) * scaled).sum(axis=1)
            left = found[i] - own * (own_sum[i] - itself)
            result.append(np.maximum(left, 0.0) / np.sqrt(np.maximum(self.counts[ask.candidates] - own, 1.0)))
        return result

    def _match(self, asks: Sequence[Ask]) -> list[Float64]:
        """Cosine of the candidate's TF-IDF vector and the weighted sum of those of the history."""
        if self._vectors is None:
            self._vectors = TfidfVectorizer(sublinear_tf=True, dtype=np.float64).fit_transform(self.texts).tocsr()
        pairs = [self._weights(ask) for ask in asks]
        rows = np.concatenate([np.full(len(recent), i) for i, (recent, _) in enumerate(pairs)])
        weights = np.concatenate([w for _, w in pairs])
        shape = (len(asks), len(self.texts))
        picks = sp.csr_matrix((weights, (rows, np.concatenate([recent for recent, _ in pairs]))), shape=shape)
        profiles = normalize((picks @ self._vectors).tocsr())
        return [
            np.asarray((self._vectors[ask.candidates] @ profiles[i].T).todense()).ravel() for i, ask in enumerate(asks)
        ]

    def _bm25(self, asks: Sequence[Ask]) -> list[Float64]:
        """BM25 (Lucene's variant, k1 1.5, b 0.75) of the query against the text."""
        import bm25s

        index = bm25s.BM25()
        index.index(bm25s.tokenize(list(self.texts), stopwords="en", show_progress=False), show_progress=False)
        known: dict[str, Float64] = {}
        result = []
        for ask in asks:
            if ask.query not in known:
                tokens = bm25s.tokenize([ask.query], stopwords="en", show_progress=False, return_ids=False)[0]
                tokens = [t for t in tokens if t in index.vocab_dict]
                known[ask.query] = (
                    np.asarray(index.get_scores(tokens), dtype=np.float64) if tokens else np.zeros(len(self.texts))
                )
            result.append(known[ask.query][ask.candidates])
        return result


def _pick(matrix: sp.csr_matrix, asks: Sequence[Ask]) -> list[Float64]:
    """Entries of row i at the candidates of list i, without a dense matrix."""
    matrix.sort_indices()
    n = matrix.shape[1]
    keys = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr)) * n + matrix.indices
    result = []
    for i, ask in enumerate(asks):
        wanted = i * n + ask.candidates.astype(np.int64)
        at = np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        hit = keys[at] == wanted if len(keys) else np.zeros(len(wanted), dtype=bool)
        result.append(np.where(hit, matrix.data[at] if len(keys) else 0.0, 0.0))
    return result

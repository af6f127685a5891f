"""What a table can say of texts: how a candidate's words, brand and category relate to the history and the query.

    columns = TextNumbers(data.items, train_lists);  columns.table(one, own=False)     # float64 [K, columns]

Too much for a shop's feature store, and made for one purpose: the teacher of `evaluation.teacher`, whose scores a
reranker learns that reads the texts themselves. "recent" weighs each history item 0.8 times the next younger one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from reshelf.data.schema import Item, RankingList

_RECENT, _DECAY = 10, 0.8
_TOPICS = 96
_AHEAD = 3
"""How far apart in a history two items may stand to count as following one another."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class TextNumbers:
    """Columns over one catalogue.

    Args:
        items: the catalogue.
        train: lists whose histories and wanted candidates say what follows what.
    """

    def __init__(self, items: Mapping[str, Item], train: Sequence[RankingList]) -> None:
        self._row = {item_id: row for row, item_id in enumerate(items)}
        found = list(items.values())
        texts = [f"{item.title} {item.brand or ''} {' '.join(item.category)}" for item in found]
        self._vectoriser = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2 if len(found) > 1000 else 1)
        self._words = self._vectoriser.fit_transform(texts).tocsr()
        size = max(1, min(_TOPICS, min(self._words.shape) - 1))
        self._svd = TruncatedSVD(size, random_state=0)
        self._topics = normalize(self._svd.fit_transform(self._words))
        titles = [item.title.lower().split() for item in found]
        self._groups = [
            _codes([item.category[-1:] for item in found]),
            _codes([item.category[:2] for item in found]),
            _codes([item.brand or tuple(words[:1]) for item, words in zip(found, titles, strict=True)]),
            _codes([tuple(words[:2]) for words in titles]),
        ]
        numbers = [_NUMBER.findall(item.title) for item in found]
        self._title = np.array(
            [[len(words), float(n[-1]) if n else np.nan] for words, n in zip(titles, numbers, strict=True)]
        )
        self._next: defaultdict[tuple[int, int], float] = defaultdict(float)
        self._count: Counter[int] = Counter()
        self._paths: dict[str, list[int]] = {}
        for one in train:
            path = self._history(one) + [self._row[c] for c, y in zip(one.candidates, one.labels or ()) if y > 0]
            if len(path) > len(self._paths.get(one.user_id, ())):
                self._paths[one.user_id] = path
        for path in self._paths.values():
            for pair, value in _following(path).items():
                self._next[pair] += value
            self._count.update(path)

    def table(self, one: RankingList, own: bool) -> np.ndarray:
        """float64 [K, columns].

        Args:
            own: the list is one of the train lists, so what its own shopper did does not count as what follows what.
        """
        history = np.array(self._history(one)[-_RECENT:], dtype=int)
        rows = np.array([self._row[c] for c in one.candidates])
        columns: list[np.ndarray] = [*self._title[rows].T]
        weights = _DECAY ** np.arange(len(history) - 1, -1, -1.0)
        if len(history):
            same = [(codes[rows][:, None] == codes[history][None, :]).astype(float) for codes in self._groups]
            words = (self._words[rows] @ self._words[history].T).toarray()
            alike = [self._topics[rows] @ self._topics[history].T, words]
            after = self._after(rows, history, self._paths.get(one.user_id, []) if own else [])
            for matrix in (*same, *alike, after):
                columns += [matrix @ weights / weights.sum(), matrix[:, -1], matrix.max(1)]
        else:
            columns += [np.zeros(len(rows))] * 21
        query = self._vectoriser.transform([one.query])
        columns.append((self._words[rows] @ query.T).toarray().ravel())
        columns.append(self._topics[rows] @ normalize(self._svd.transform(query))[0])
        return np.stack(columns, axis=1)

    def _history(self, one: RankingList) -> list[int]:
        return [self._row[event.item_id] for event in one.history if event.item_id is not None]

    def _after(self, rows: np.ndarray, history: np.ndarray, path: Sequence[int]) -> np.ndarray:
        """How often a candidate followed a history item, [K, H], on the scale of a cosine; `path` is left out."""
        mine, own = _following(path), Counter(path)
        result = np.zeros((len(rows), len(history)))
        for i, row in enumerate(rows.tolist()):
            for j, past in enumerate(history.tolist()):
                value = self._next.get((past, row), 0.0)
                if value:
                    seen = (self._count[past] - own[past] + 1) * (self._count[row] - own[row] + 1)
                    result[i, j] = (value - mine.get((past, row), 0.0)) / np.sqrt(seen)
        return result


def _following(path: Sequence[int]) -> dict[tuple[int, int], float]:
    """Pairs of items of which one follows the other, near ones counting more."""
    found: dict[tuple[int, int], float] = {}
    for at, first in enumerate(path):
        for distance, second in enumerate(path[at + 1 : at + 1 + _AHEAD], start=1):
            found[first, second] = found.get((first, second), 0.0) + 1 / distance
    return found


def _codes(values: Sequence[Hashable]) -> np.ndarray:
    """The same number for the same value; a number of its own for each missing one."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(value, len(known)) if value else -1 - n for n, value in enumerate(values)])

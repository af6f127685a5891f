"""The tables of an import, each made from the train events and the texts of the catalogue when it is first read.

events = TrainEvents(log, len(texts.named))
signals = Signals(make_tables(texts, events, clicks), events=events)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from reshelf.data.bm25 import LONGER_WORD, Bm25Index, english_words
from reshelf.data.signals.event_log import NEVER, EventLog, Float64, Int64
from reshelf.data.signals.tables import Groups, LazyTables, Table

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

TRAIN = 0
TRIGRAMS: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (3, 3), "sublinear_tf": True}
"""How texts become character trigrams within words."""
WORDS: dict[str, Any] = {"sublinear_tf": True, "token_pattern": LONGER_WORD}
"""How texts become words."""
_FACTORS = 64
_TOPICS = 100


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


@dataclass(frozen=True)
class Clicks:
    """Every click of a log that has a query, in order of time."""

    queries: pa.StringArray
    items: Int64
    """Rows of the catalogue."""
    times: Int64
    """Microseconds since 1970 UTC."""


class TrainEvents:
    """Events on items in the train split that nothing took back.

    Args:
        log: all events; None for none.
        items: how many the catalogue has.
    """

    def __init__(self, log: EventLog | None, items: int) -> None:
        self._log, self._items = log, items
        rows = np.zeros(0, dtype=np.int64)
        if log is not None:
            counts = (log.item >= 0) & (log.split == TRAIN)
            rows = np.flatnonzero(counts & (log.undone == NEVER) if len(log.undone) else counts)
        self._rows = rows
        user, item = (rows, rows) if log is None else (log.user[rows], log.item[rows])
        self.taken = sp.csr_matrix((np.ones(len(rows)), (user, item)), shape=(log.users if log else 1, items))
        """1 where a shopper took an item, [shoppers, items]."""
        self.taken.sum_duplicates()
        self.taken.data[:] = 1.0

    @cached_property
    def end(self) -> int | None:
        """Time of the last one; None for a log without times."""
        if self._log is None or not self._log.timed or not len(self._rows):
            return None
        return int(self._log.key[self._rows].max())

    @cached_property
    def counts(self) -> Float64:
        """Shoppers who took each item."""
        return np.asarray(self.taken.sum(axis=0), dtype=np.float64).ravel()

    @cached_property
    def takers(self) -> Groups:
        """Who took each item."""
        turned = self.taken.T.tocsr()
        return Groups(turned.indptr.astype(np.int64), turned.indices)

    @cached_property
    def times(self) -> Groups:
        """When each item was taken, in rising order; empty for a log without times."""
        if self._log is None or not self._log.timed:
            return Groups(np.zeros(self._items + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
        order = self._rows[np.lexsort((self._log.key[self._rows], self._log.item[self._rows]))]
        return Groups.of(self._log.item[order], self._log.key[order], self._items)

    @cached_property
    def last(self) -> Int64:
        """The item that each shopper took last; -1 for none."""
        last = np.full(self.taken.shape[0], -1, dtype=np.int64)
        if self._log is not None:  # sorted by shopper and order: the last one stays
            last[self._log.user[self._rows]] = self._log.item[self._rows]
        return last

    @cached_property
    def last_counts(self) -> Float64:
        """Shoppers who took each item last."""
        return np.bincount(self.last[self.last >= 0], minlength=self._items).astype(np.float64)


def make_tables(texts: Texts, events: TrainEvents, clicks: Clicks | None = None) -> LazyTables:
    """All tables that signals read (`data.signals.READS`)."""
    words = cache(partial(_words, texts.full))
    trigrams = cache(partial(_trigrams, texts.full))
    topics = cache(partial(_topics, texts.whole))
    makers: dict[str, Any] = {
        "counts": lambda: events.counts,
        "takers": lambda: events.takers,
        "times": lambda: events.times,
        "last_counts": lambda: events.last_counts,
        "factors": lambda: item_factors(events.taken),
        "title_words": lambda: tfidf(WORDS).fit_transform(texts.named).tocsr(),
        "categories": lambda: _categories(texts.categories),
        "texts": lambda: pa.array(texts.full, pa.string()),
    }
    if clicks is not None:
        makers |= {
            "click_queries": lambda: clicks.queries,
            "click_items": lambda: clicks.items,
            "click_times": lambda: clicks.times,
        }
    for made, names in ((words, BM25), (trigrams, CHARS), (topics, TOPICS)):
        # Made together: the first of them that is read makes all.
        makers |= {name: lambda made=made, name=name: made()[name] for name in names}
    return LazyTables(makers)


BM25 = ("bm25_words", "bm25_weights")
CHARS = ("trigrams", "trigram_idf", "title_trigrams")
TOPICS = ("topic_words", "topic_idf", "topic_weights", "topics")


def item_factors(taken: sp.csr_matrix) -> Float64:
    """Unit vectors of the items, [items, factors]; zero for items nobody took.

    Args:
        taken: 1 where a shopper took an item, [shoppers, items].
    """
    counts = np.asarray(taken.sum(axis=0)).ravel()
    sizes = np.asarray(taken.sum(axis=1)).ravel()
    scaled = sp.diags(np.maximum(sizes, 1) ** -0.5) @ taken @ sp.diags(np.maximum(counts, 1) ** -0.5)
    size = min(_FACTORS, min(scaled.shape) - 1)
    if size < 1:
        return np.zeros((taken.shape[1], 1))
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd

    _, strength, items = randomized_svd(scaled.tocsr(), size, n_iter=4, random_state=0)
    return normalize(items.T * strength)


def tfidf(how: dict[str, Any], vocabulary: dict[str, int] | None = None) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer  # 1 s and 100 MB that few imports need

    return TfidfVectorizer(**how, vocabulary=vocabulary)


def tfidf_rows(vectoriser: TfidfVectorizer, texts: Sequence[str]) -> sp.csr_matrix:
    """`vectoriser.transform(texts)`, [texts, terms], in half the time for a single query: its checks take the rest."""
    from sklearn.feature_extraction.text import CountVectorizer

    rows = CountVectorizer.transform(vectoriser, texts).tocsr()
    data = (1 + np.log(rows.data)) * vectoriser.idf_[rows.indices]
    row = np.repeat(np.arange(len(texts)), np.diff(rows.indptr))
    lengths = np.sqrt(np.bincount(row, data**2, len(texts)))
    return sp.csr_matrix((data / lengths[row], rows.indices, rows.indptr), rows.shape)


def _categories(paths: Sequence[Sequence[str]]) -> sp.csr_matrix:
    """Where an item lies, scaled so that an item's row adds up to one: [items, categories]."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(category for path in paths for category in path))}
    sets = [[codes[c] for c in dict.fromkeys(path)] for path in paths]
    sizes = [len(one) for one in sets]
    columns = np.array([code for one in sets for code in one], dtype=np.int64)
    weights = np.repeat([1 / max(size, 1) for size in sizes], sizes)
    rows = np.repeat(np.arange(len(sets)), sizes)
    return sp.csr_matrix((weights, (rows, columns)), shape=(len(sets), max(len(codes), 1)))


def _words(texts: Sequence[str]) -> dict[str, Table]:
    """BM25's words, and their weights in every item, [words, items]."""
    words, weights = Bm25Index(texts, english_words).weights
    return {"bm25_words": pa.array(words, pa.string()), "bm25_weights": weights}


def _trigrams(texts: Sequence[str]) -> dict[str, Table]:
    """Unit vectors [items, trigrams], and what makes them."""
    vectoriser = tfidf(TRIGRAMS)
    vectors = vectoriser.fit_transform(texts).tocsr()
    terms = pa.array(vectoriser.get_feature_names_out().tolist(), pa.string())
    return {"trigrams": terms, "trigram_idf": vectoriser.idf_, "title_trigrams": vectors}


def _topics(texts: Sequence[str]) -> dict[str, Table]:
    """Unit vectors [items, topics], and what makes them, [words, topics]; a topic a word where those are few."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    vectoriser = tfidf(WORDS)
    words = vectoriser.fit_transform(texts)
    size = min(_TOPICS, min(words.shape) - 1)
    if size < 1:
        weights, vectors = np.eye(words.shape[1]), words.toarray()
    else:
        decomposition = TruncatedSVD(size, random_state=0)
        vectors = decomposition.fit_transform(words)
        weights = np.ascontiguousarray(decomposition.components_.T)
    terms = pa.array(vectoriser.get_feature_names_out().tolist(), pa.string())
    return {
        "topic_words": terms, "topic_idf": vectoriser.idf_, "topic_weights": weights, "topics": normalize(vectors),
    }  # fmt: skip

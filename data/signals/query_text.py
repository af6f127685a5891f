"""Numbers for how well a candidate's text answers the query: words, parts of words, topics.

    signals = QuerySignals(tables);  signals.compute("query_chars", queries, candidates)

query_match  share of the query's words that the candidate's title, brand or category holds
bm25         BM25 of the query against title, brand and category
query_chars  TF-IDF cosine of character trigrams between the query and the title: misspelt words still match
query_cover  share of the query's trigrams that the title holds, each weighing its inverse document frequency
query_topic  cosine between query and whole text (title, category, description) in 100 latent topics
             (latent semantic analysis, Deerwester et al. 1990): words that often stand together match
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from reshelf.data.bm25 import UNSPACED, english_words
from reshelf.data.signals.event_log import Float64
from reshelf.data.signals.making import BM25, CHARS, TOPICS, TRIGRAMS, WORDS, tfidf, tfidf_rows
from reshelf.data.signals.tables import Tables, dots

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

QUERY_SIGNALS = ("query_match", "bm25", "query_chars", "query_cover", "query_topic")
QUERY_READS = {
    "query_match": ("texts",), "bm25": BM25, "query_chars": CHARS, "query_cover": CHARS, "query_topic": TOPICS,
}  # fmt: skip
"""Tables that each is computed from."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_WORDS_KEPT = 1 << 16
"""Items whose words are kept, those used last."""


class QuerySignals:
    """Texts of one catalogue.

    Args:
        tables: those of `QUERY_READS` for what will be computed.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables: Any = tables
        self._words_of = lru_cache(_WORDS_KEPT)(self._read_words)

    def compute(
        self, name: str, queries: Sequence[str], candidates: Sequence[npt.NDArray[np.integer]]
    ) -> list[Float64]:
        """One signal, float64 [K] per list; 0 where the query is empty.

        Args:
            queries: one per list.
            candidates: rows of the catalogue, [K] per list.
        """
        if name == "query_match":
            return [self._match(query, rows) for query, rows in zip(queries, candidates, strict=True)]
        if name == "bm25":
            return [self._bm25(query, rows) for query, rows in zip(queries, candidates, strict=True)]
        place = {query: row for row, query in enumerate(dict.fromkeys(queries))}
        asked = [place[query] for query in queries]
        if name == "query_topic":
            topics = self._topics(list(place))
            return [dots(self._tables["topics"], rows, topics[q]) for q, rows in zip(asked, candidates, strict=True)]
        vectors, titles = tfidf_rows(self._trigrams, list(place)), self._tables["title_trigrams"]
        result = []
        for q, rows in zip(asked, candidates, strict=True):
            held, query = titles[rows], vectors[q].toarray().ravel()
            # An entry squared is its share of the query's weight: rows have length one.
            result.append(held.sign() @ query**2 if name == "query_cover" else held @ query)
        return result

    def _match(self, query: str, rows: npt.NDArray[np.integer]) -> Float64:
        asked = frozenset(_WORD.findall(query.lower()))
        if not asked:
            return np.zeros(len(rows))
        return np.array([len(asked & self._words_of(row)) / len(asked) for row in rows.tolist()])

    def _read_words(self, row: int) -> frozenset[str]:
        return frozenset(_WORD.findall(self._tables["texts"][row].as_py().lower()))

    def _bm25(self, query: str, rows: npt.NDArray[np.integer]) -> Float64:
        """Sums in float32 in the order of the query's words, as bm25s has them."""
        weights: sp.csr_matrix = self._tables["bm25_weights"]
        total = np.zeros(len(rows), dtype=np.float32)
        for word in english_words(query):
            place = self._bm25_words.get(word)
            if place is None:
                continue
            span = slice(weights.indptr[place], weights.indptr[place + 1])
            items, values = weights.indices[span], weights.data[span]
            at = np.minimum(np.searchsorted(items, rows), len(items) - 1)
            total += np.where(items[at] == rows, values[at], np.float32(0))
        return total.astype(np.float64)

    @cached_property
    def _bm25_words(self) -> dict[str, int]:
        """Row of every word that some item has."""
        sizes = np.diff(self._tables["bm25_weights"].indptr)
        return {word: n for n, word in enumerate(self._tables["bm25_words"].to_pylist()) if sizes[n]}

    @cached_property
    def _trigrams(self) -> TfidfVectorizer:
        return _vectoriser(TRIGRAMS, self._tables["trigrams"], self._tables["trigram_idf"])

    @cached_property
    def _topic_words(self) -> TfidfVectorizer:
        return _vectoriser(WORDS, self._tables["topic_words"], self._tables["topic_idf"])

    def _topics(self, queries: Sequence[str]) -> Float64:
        """Unit vectors [queries, topics]."""
        from sklearn.preprocessing import normalize

        return normalize(self._topic_words.transform(queries) @ self._tables["topic_weights"])


def _vectoriser(how: dict[str, Any], terms: pa.StringArray, idf: Float64) -> TfidfVectorizer:
    """The vectoriser that a table was made by."""
    made = tfidf(how, {term: n for n, term in enumerate(terms.to_pylist())})
    made.idf_ = idf
    return made

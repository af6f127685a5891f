"""Numbers for how well a candidate's text answers the query, beyond whole words: misspellings, parts of words, topics.

    signals = QuerySignals(titles, descriptions);  signals.compute("query_chars", queries, candidates)

query_chars  TF-IDF cosine of character trigrams between the query and the title: misspelt words still match
query_cover  share of the query's trigrams that the title holds, each weighing its inverse document frequency
query_topic  cosine between query and whole text (title, category, description) in 100 latent topics
             (latent semantic analysis, Deerwester et al. 1990): words that often stand together match
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

QUERY_SIGNALS = ("query_chars", "query_cover", "query_topic")
_TOPICS = 100
Float64 = npt.NDArray[np.float64]


class QuerySignals:
    """Texts of one catalogue.

    Args:
        titles: title, brand and category of every item.
        texts: the same with the description behind it.
    """

    def __init__(self, titles: Sequence[str], texts: Sequence[str]) -> None:
        self._titles, self._texts = titles, texts

    def compute(
        self, name: str, queries: Sequence[str], candidates: Sequence[npt.NDArray[np.integer]]
    ) -> list[Float64]:
        """One signal, float64 [K] per list; 0 where the query is empty.

        Args:
            queries: one per list.
            candidates: rows of the catalogue, [K] per list.
        """
        place = {query: row for row, query in enumerate(dict.fromkeys(queries))}
        asked = np.array([place[query] for query in queries])
        if name == "query_topic":
            vectors = self._topics_of(list(place))
            return [self._topics[0][rows] @ vectors[q] for q, rows in zip(asked, candidates, strict=True)]
        vectors = self._chars[1].transform(list(place)).tocsr()
        if name == "query_cover":
            # An entry squared is its share of the query's weight: rows have length one.
            return [
                np.asarray((self._held[rows] @ vectors[q].power(2).T).todense(), dtype=np.float64).ravel()
                for q, rows in zip(asked, candidates, strict=True)
            ]
        if name == "query_chars":
            return [
                np.asarray((self._chars[0][rows] @ vectors[q].T).todense(), dtype=np.float64).ravel()
                for q, rows in zip(asked, candidates, strict=True)
            ]
        raise ValueError(f"there is no signal {name!r}")

    @cached_property
    def _chars(self) -> tuple[sp.csr_matrix, TfidfVectorizer]:
        """Trigrams within words: unit vectors [items, trigrams], and what makes them."""
        vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), sublinear_tf=True)
        return vectoriser.fit_transform(self._titles).tocsr(), vectoriser

    @cached_property
    def _held(self) -> sp.csr_matrix:
        return self._chars[0].sign()

    @cached_property
    def _topics(self) -> tuple[Float64, TruncatedSVD | None, TfidfVectorizer]:
        """Unit vectors [items, topics], and what makes them; no decomposition where there are too few words."""
        vectoriser = TfidfVectorizer(sublinear_tf=True)
        words = vectoriser.fit_transform(self._texts)
        size = min(_TOPICS, min(words.shape) - 1)
        if size < 1:
            return normalize(words.toarray()), None, vectoriser
        decomposition = TruncatedSVD(size, random_state=0)
        return normalize(decomposition.fit_transform(words)), decomposition, vectoriser

    def _topics_of(self, queries: Sequence[str]) -> Float64:
        _, decomposition, vectoriser = self._topics
        words = vectoriser.transform(queries)
        return normalize(words.toarray() if decomposition is None else decomposition.transform(words))

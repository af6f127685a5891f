"""BM25 over the texts of a catalogue: one index for the simulator's first stage, import signals, the baseline and /ui.

index = Bm25Index(["red kettle", "blue teapot"]);  index.scores("kettle")      # float64 [2]
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from reshelf.metrics.ordering import best_first

if TYPE_CHECKING:
    import bm25s

UNSPACED = "぀-ヿ㐀-鿿"
"""Chinese and Japanese signs, as in the brackets of a pattern: each is a word."""
# Chinese, Japanese and Korean writing has no spaces: one sign, one word.
_WORD = re.compile(rf"[{UNSPACED}가-힯]|[^\W_]+")
LONGER_WORD = rf"[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}"
"""Words of two letters and more, as a pattern."""
_LONGER_WORD = re.compile(LONGER_WORD)


def words(text: str) -> list[str]:
    """Lower-case words of any script.

    Examples:
        >>> words("USB-C cable, 红色")
        ['usb', 'c', 'cable', '红', '色']
    """
    return _WORD.findall(text.lower())


def english_words(text: str) -> list[str]:
    """Lower-case words of two letters and more, and Chinese and Japanese signs, without English stopwords.

    Examples:
        >>> english_words("A lid for the USB-C kettle")
        ['lid', 'usb', 'kettle']
        >>> english_words("USB 水壶")
        ['usb', '水', '壶']
    """
    return [word for word in _LONGER_WORD.findall(text.lower()) if word not in _stopwords()]


@cache
def _stopwords() -> frozenset[str]:
    from bm25s.stopwords import STOPWORDS_EN  # it brings numba along

    return frozenset(STOPWORDS_EN)


class Bm25Index:
    """BM25 of queries over a catalogue (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009), in
    Lucene's variant as bm25s computes it, k1 1.5 and b 0.75.

    Args:
        texts: one per item.
        tokenize: makes words of a text; of queries too.

    Examples:
        >>> index = Bm25Index(["red kettle", "blue teapot", "kettle"])
        >>> index.top("kettle!", count=5)
        [2, 0]
        >>> index.scores("teapot").round(3).tolist()
        [0.0, 0.36, 0.0]
    """

    def __init__(self, texts: Iterable[str], tokenize: Callable[[str], list[str]] = words) -> None:
        self._tokenize = tokenize
        tokens = [tokenize(text) for text in texts]
        self._size = len(tokens)
        self._index: bm25s.BM25 | None = None
        if any(tokens):
            import bm25s

            self._index = bm25s.BM25()
            # Of texts bm25s would number the words as a set has them, in another order in every process
            # (findings/bm25s_numbers_words_by_hash_order.sh).
            number = {word: n for n, word in enumerate(dict.fromkeys(itertools.chain.from_iterable(tokens)))}
            self._index.index(([[number[word] for word in text] for text in tokens], number), show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """float64 [items]; 0 where no word is shared."""
        known = [] if self._index is None else [w for w in self._tokenize(query) if w in self._index.vocab_dict]
        if self._index is None or not known:
            return np.zeros(self._size)
        return self._index.get_scores(known).astype(np.float64)

    @property
    def weights(self) -> tuple[list[str], sp.csr_matrix]:
        """Every word, and what it adds to the score of each item that has it: float32 [words, items]."""
        if self._index is None:
            return [], sp.csr_matrix((0, self._size), dtype=np.float32)
        scores = self._index.scores
        matrix = sp.csr_matrix(
            (scores["data"], scores["indices"], scores["indptr"]), shape=(len(scores["indptr"]) - 1, self._size)
        )
        matrix.sort_indices()
        words = sorted(self._index.vocab_dict, key=self._index.vocab_dict.__getitem__)
        return words[: matrix.shape[0]], matrix

    def top(self, query: str, count: int) -> list[int]:
        """Numbers of at most `count` items that share a word with the query, best first; equal ones in their order."""
        scores = self.scores(query)
        found = np.flatnonzero(scores > 0)
        return found[best_first(scores[found])[:count]].tolist()

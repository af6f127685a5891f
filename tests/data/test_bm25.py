"""The BM25 index against the formula, and what it makes of words."""

from __future__ import annotations

import re
from collections import Counter
from math import log

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.data.bm25 import UNSPACED, Bm25Index, english_words, words

TEXT = st.lists(st.sampled_from(["red", "kettle", "the", "usb-c", "lid", "红色", "x"]), max_size=6).map(" ".join)


def slow(texts: list[str], query: str) -> list[float]:
    """Lucene's variant: idf = log(1 + (N − n + 0.5) / (n + 0.5)), without the constant k1 + 1."""
    bags = [Counter(words(text)) for text in texts]
    mean = sum(bag.total() for bag in bags) / len(bags)
    scores = []
    for bag in bags:
        score = 0.0
        for word in words(query):
            n = sum(word in other for other in bags)
            if n and bag[word]:
                idf = log(1 + (len(bags) - n + 0.5) / (n + 0.5))
                score += idf * bag[word] / (bag[word] + 1.5 * (1 - 0.75 + 0.75 * bag.total() / mean))
        scores.append(score)
    return scores


@given(st.lists(TEXT, min_size=1, max_size=6), TEXT)
def test_scores_are_those_of_the_formula_for_any_catalogue_and_query(texts: list[str], query: str) -> None:
    index = Bm25Index(texts)
    expected = slow(texts, query)
    assert index.scores(query) == pytest.approx(expected, abs=1e-5)
    top = index.top(query, count=3)
    assert len(top) == min(3, sum(score > 0 for score in expected))
    assert all(expected[item] > 0 for item in top)
    assert index.scores(query)[top].tolist() == sorted(index.scores(query), reverse=True)[: len(top)]


def test_equal_items_come_in_the_order_of_the_catalogue() -> None:
    assert Bm25Index(["lamp", "red kettle", "blue kettle", "green kettle"]).top("kettle", count=2) == [1, 2]


def test_words_are_numbered_as_they_come_in_every_process() -> None:
    texts = [" ".join(f"w{n * 7 % 23}" for n in range(k, k + 9)) for k in range(20)]
    found, weights = Bm25Index(texts).weights
    assert found[:23] == list(dict.fromkeys(" ".join(texts).split()))
    for word, scores in zip(found, weights.toarray(), strict=True):
        assert scores == pytest.approx(Bm25Index(texts).scores(word), abs=1e-6)


@pytest.mark.parametrize("texts", [[], ["", "…"]])
def test_a_catalogue_without_words_finds_nothing(texts: list[str]) -> None:
    index = Bm25Index(texts)
    assert index.scores("kettle").tolist() == [0.0] * len(texts)
    assert index.top("kettle", count=3) == []


@given(st.text(max_size=30) | TEXT)
def test_english_words_are_those_of_bm25s(text: str) -> None:
    spaced = re.sub(f"[{UNSPACED}]", " ", text)  # they take a Chinese sentence for a word
    theirs = bm25s.tokenize([spaced], stopwords="en", show_progress=False, return_ids=False)[0]
    assert english_words(spaced) == theirs


def test_words_of_any_script() -> None:
    assert words("Trail-running SHOE_42, 3.5l 绿色") == ["trail", "running", "shoe", "42", "3", "5l", "绿", "色"]
    assert np.isfinite(Bm25Index(["绿色 鞋"]).scores("绿")).all()

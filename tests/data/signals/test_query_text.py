"""How well a candidate's text answers a query, against counting by hand."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.data.bm25 import LONGER_WORD, UNSPACED
from reshelf.data.signals import Ask, Signals, Texts
from reshelf.data.signals.making import TRIGRAMS, TrainEvents, make_tables, tfidf, tfidf_rows
from reshelf.data.signals.query_text import QUERY_SIGNALS, QuerySignals

TITLES = ["steel travel mug", "travel pillow", "garden hose", "mug", ""]


def signals_of(titles: list[str], texts: list[str]) -> QuerySignals:
    return QuerySignals(make_tables(Texts(titles, titles, [()] * len(titles), texts), TrainEvents(None, len(titles))))


def trigrams(text: str) -> Counter[str]:
    return Counter(f" {word} "[i : i + 3] for word in text.split() for i in range(len(word)))


def slow(query: str) -> dict[str, list[float]]:
    n = len(TITLES)
    held = [trigrams(title) for title in TITLES]
    frequency = Counter(gram for grams in held for gram in grams)
    weight = {g: math.log((1 + n) / (1 + f)) + 1 for g, f in frequency.items()}

    def vector(grams: Counter[str]) -> dict[str, float]:
        raw = {g: (1 + math.log(c)) * weight[g] for g, c in grams.items() if g in weight}
        length = math.sqrt(sum(v * v for v in raw.values())) or 1.0
        return {g: v / length for g, v in raw.items()}

    asked = vector(trigrams(query))
    titles = [vector(grams) for grams in held]
    return {
        "query_chars": [sum(v * title.get(g, 0.0) for g, v in asked.items()) for title in titles],
        "query_cover": [sum(v * v for g, v in asked.items() if g in title) for title in titles],
    }


@pytest.mark.parametrize("name", ["query_chars", "query_cover"])
@pytest.mark.parametrize("query", ["travel mug", "travle mugs", "hose", ""])
def test_trigrams_against_counting_by_hand(name: str, query: str) -> None:
    found = signals_of(TITLES, TITLES).compute(name, [query], [np.arange(5)])[0]
    np.testing.assert_allclose(found, slow(query)[name], atol=1e-12)


def test_a_misspelt_query_still_finds_and_an_empty_one_finds_nothing() -> None:
    signals = signals_of(TITLES, TITLES)
    for name in QUERY_SIGNALS:
        misspelt, empty = signals.compute(name, ["gardn hose", ""], [np.arange(5), np.arange(5)])
        assert misspelt.argmax() == 2
        assert (empty == 0).all()


def test_chinese_has_words_though_it_has_no_spaces() -> None:
    titles = ["北木红色马克杯 350ml", "窑坊红色台灯", "北木 保温杯", "iPhone手机壳"]
    signals = signals_of(titles, titles)
    rows = [np.arange(4)]
    assert signals.compute("query_match", ["马克杯"], rows)[0].tolist() == [1, 0, 1 / 3, 0]
    assert signals.compute("query_match", ["iphone 壳"], rows)[0].tolist() == [0, 0, 0, 1]
    assert signals.compute("bm25", ["台灯"], rows)[0].argmax() == 1
    texts = Texts(titles, titles, [()] * 4, titles)
    (found,) = Signals.of(texts, None).compute([Ask(np.array([1]), np.arange(4, dtype=np.int32), "")], ["match"])
    assert found["match"][1] > found["match"][0] > found["match"][2] == found["match"][3] == 0


@given(st.text())
def test_words_of_other_writing_are_what_they_were(text: str) -> None:
    """Published figures rest on them."""
    spaced = re.sub(f"[{UNSPACED}]", " ", text)
    assert re.findall(LONGER_WORD, spaced) == re.findall(r"\b\w\w+\b", spaced)


def test_topics_join_words_that_stand_together() -> None:
    texts = ["tv television screen"] * 4 + ["television remote"] * 4 + ["apple pie"] * 4 + ["pie dish"] * 4
    found = signals_of(texts, texts).compute("query_topic", ["tv"], [np.array([4, 12])])[0]
    assert found[0] > found[1]


def test_signals_hands_them_on_and_history_shares_categories() -> None:
    categories = [("a", "b"), ("a", "c"), ("d",), (), ("a", "b")]
    signals = Signals.of(Texts(TITLES, TITLES, categories, TITLES), None)
    history = np.array([0, 1, 2])
    ask = Ask(history, np.arange(5, dtype=np.int32), "travel mug")
    short = Ask(np.zeros(0, dtype=np.int64), ask.candidates, "mug")
    found = signals.compute([ask, short], ["category_match", "query_chars"])
    np.testing.assert_allclose(found[0]["query_chars"], slow("travel mug")["query_chars"], atol=1e-12)
    weights = np.array([0.64, 0.8, 1.0]) / 2.44
    share = {"a": weights[0] + weights[1], "b": weights[0], "c": weights[1], "d": weights[2]}
    wanted = [np.mean([share[c] for c in path]) if path else 0.0 for path in categories]
    np.testing.assert_allclose(found[0]["category_match"], wanted, atol=1e-12)
    assert (found[1]["category_match"] == 0).all(), "nobody's history"


@given(st.lists(st.text("abcdé 鞋12", max_size=30), min_size=1, max_size=5))
def test_rows_of_a_query_are_scikit_learns(texts: list[str]) -> None:
    made = tfidf(TRIGRAMS).fit(["abc abd", "cab bad", "é1 鞋12", "aaa aaa aaa"])
    assert np.allclose(tfidf_rows(made, texts).toarray(), made.transform(texts).toarray(), atol=1e-15)

#!/usr/bin/env bash
# Guess: BM25Plus(delta=…) adds delta, times the word's weight, to documents that have a word of the query (Lv and Zhai, 2011: so that a
#   long document with the word stays above one without it); a larger delta moves long texts up.
# Happens: delta is added to every document, whether it has the word or not. All scores rise by the same sum, so the order is that of
#   BM25 for every delta; a search over delta finds nothing, and products without any word of the query have a score above zero.
#   method="bm25+" of bm25s is the same.
# Source: rank_bm25 0.2.2, BM25Plus.get_scores; bm25s 0.3.16, "nonoccurrence" in scoring.py. Their pages list BM25+ and delta and say
#   nothing of it; the sum of the paper is over words that query and document share.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rank-bm25==0.2.2 bm25s==0.3.16 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import bm25s
import numpy as np
from rank_bm25 import BM25Plus

print("rank_bm25", version("rank-bm25"), "bm25s", version("bm25s"))
rest = [f"word{n}" for n in range(60)]
products = {
    "short, has leather": ["leather"],
    "short, has boots twice": ["boots", "boots", "blue"],
    "long, has both": ["leather", "boots", *rest],
    "has neither": ["green", "hat"],
    "has neither too": ["grey", "coat"],
    "nor this": ["gold", "ring"],
}
query, corpus = ["leather", "boots"], list(products.values())
k1, b, mean = 1.5, 0.75, np.mean([len(words) for words in corpus])


def of_the_paper(delta):
    scores = np.zeros(len(corpus))
    for word in query:
        weight = np.log((len(corpus) + 1) / sum(word in words for words in corpus))
        for n, words in enumerate(corpus):
            if count := words.count(word):
                scores[n] += weight * (delta + count * (k1 + 1) / (count + k1 * (1 - b + b * len(words) / mean)))
    return scores


def of_bm25s(delta):
    index = bm25s.BM25(method="bm25+", k1=k1, b=b, delta=delta)
    index.index(corpus, show_progress=False)
    return index.get_scores(query)


orders = {}
for name, scores in {
    "rank_bm25": lambda delta: BM25Plus(corpus, k1=k1, b=b, delta=delta).get_scores(query),
    "bm25s": of_bm25s,
    "the paper": of_the_paper,
}.items():
    for delta in (0, 1, 10):
        found = scores(delta)
        orders[name, delta] = np.argsort(-found, kind="stable").tolist()
        print(f"{name:9} delta {delta:2}: best {list(products)[orders[name, delta][0]]!r}; 'has neither' {found[3]:.2f}")
        assert (found[3] > 0) == (delta > 0 and name != "the paper")
for name in ("rank_bm25", "bm25s"):
    assert orders[name, 0] == orders[name, 1] == orders[name, 10] == orders["the paper", 0]
assert orders["the paper", 10] != orders["the paper", 0]
PYTHON

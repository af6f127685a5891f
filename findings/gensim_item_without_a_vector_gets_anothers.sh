#!/usr/bin/env bash
# Guess: of item2vec over whole-number item ids, wv.most_similar(item) and wv[item] raise KeyError for an item that was not in the training
#   sessions, and `item in wv` is False, as for text ids: that is how new products are told from known ones.
# Happens: a whole number that is no id is taken for a place in the table, as long as it is smaller than the number of items: `3 in wv` is True
#   with ids 100 to 119, and most_similar(3) are the neighbours of the item in place 3, the fourth most frequent. New products with small
#   numbers get the vectors and the "similar products" of best sellers; a larger one raises. rank, similarity and get_mean_vector (a
#   session with an unknown item) go by it as well. No warning.
# Source: gensim 4.4.0, KeyedVectors.get_index, which __contains__ asks too; its page says "keys specified by string or int ids" and a KeyError.
#   Ids as text, or test item in wv.key_to_index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gensim==4.4.0 numpy==2.3.5 scipy==1.17.1
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import gensim
import numpy as np
from gensim.models import Word2Vec

print("gensim", gensim.__version__)
chance = np.random.default_rng(0)
sessions = [[int(item) for item in 100 + chance.integers(0, 20, 12)] for _ in range(50)]
found = {}
for kind in (int, str):
    wv = Word2Vec([[kind(item) for item in session] for session in sessions], vector_size=8, min_count=1, workers=1, seed=1).wv
    for item in (3, 19, 20):
        try:
            found[kind, item] = kind(item) in wv, [other for other, _ in wv.most_similar(kind(item), topn=3)]
        except KeyError as error:
            found[kind, item] = kind(item) in wv, repr(error)
        print(f"item {kind(item)!r}, of no session: in wv {found[kind, item][0]}, {found[kind, item][1]}")
    if kind is int:
        place = wv.index_to_key[3]
        beside = [other for other, _ in wv.most_similar(place, topn=3)]
        print(f"place 3 is item {place}, its neighbours are {beside}")
        assert found[int, 3] == (True, beside) and found[int, 19][0]
        assert (wv[3] == wv[place]).all() and wv.similarity(3, place) > 0.999
assert found[int, 20][0] is False and all("KeyError" in found[str, item][1] and not found[str, item][0] for item in (3, 19, 20))
PYTHON

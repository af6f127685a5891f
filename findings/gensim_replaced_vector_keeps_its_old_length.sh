#!/usr/bin/env bash
# Guess: wv[item] = vector (or add_vectors(replace=True)), the nightly update of some items, changes what most_similar gives for them; its
#   similarities are cosines, from -1 to 1.
# Happens: once most_similar has been called the lengths of all vectors are kept, and a replaced one is divided by the old length. A vector ten
#   times as long as the former is "similar" by up to 10 and is in front for everyone it points towards, a tenth as long never
#   comes; new items, likewise, are right. similarity(), of two items, is right, so that a spot check shows nothing, and so is a model
#   that was loaded again. No warning.
# Source: gensim 4.4.0, KeyedVectors.add_vectors (fill_norms is not asked to start anew; the page of fill_norms asks "any code which modifies
#   vectors" to see to it). wv.fill_norms(force=True) after each update.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gensim==4.4.0 numpy==2.3.5 scipy==1.17.1
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import gensim
import numpy as np
from gensim.models import KeyedVectors

print("gensim", gensim.__version__)
chance = np.random.default_rng(0)
items = [f"item {number}" for number in range(200)]
old = chance.normal(size=(200, 16)).astype(np.float32)
new = chance.normal(size=(20, 16)).astype(np.float32) * np.repeat([10, 0.1], 10)[:, None].astype(np.float32)


def in_front(asked_before, anew):
    wv = KeyedVectors(16)
    wv.add_vectors(items, old)
    if asked_before:
        wv.most_similar("item 199")
    for item, vector in zip(items, new):  # tonight's update of twenty items
        wv[item] = vector
    if anew:
        wv.fill_norms(force=True)
    lists = [wv.most_similar(item, topn=10) for item in items[20:]]
    first = [[int(other.split()[1]) for other, _ in some] for some in lists]
    longer = np.mean([number < 10 for some in first for number in some])
    shorter = np.mean([10 <= number < 20 for some in first for number in some])
    return longer, shorter, max(score for some in lists for _, score in some), wv.similarity("item 0", "item 20")


found = {name: in_front(*how) for name, how in (("first asked after", (False, False)), ("asked before", (True, False)), ("fill_norms", (True, True)))}
for name, (longer, shorter, most, one) in found.items():
    print(f"{name}: of the ten nearest {longer:.0%} are the ten longer ones, {shorter:.1%} the ten shorter; largest {most:.2f}, similarity() {one:.3f}")
assert found["first asked after"] == found["fill_norms"] and found["fill_norms"][2] <= 1
longer, shorter, most, one = found["asked before"]
assert longer > 0.25 and shorter < 0.01 and most > 3 and abs(one - found["fill_norms"][3]) < 1e-6
PYTHON

#!/usr/bin/env bash
# Guess: Index(metric="ip", dtype="i8") ranks by inner products, to 8 bits of precision: of vectors that have a length (matrix factorisation,
#   two towers, where the length is a product's popularity) it finds nearly what "f32" finds. metric="l2sq" likewise.
# Happens: every vector, and the query, is brought to length 1 before it is stored. Inner product and Euclidean distance rank by the
#   cosine: of the ten best products by inner product 2 are found, where "f16" and "bf16" find all, and recall of the cosine is 0.97.
#   The distances are those of whole numbers (-12221), in no unit of the vectors. No warning. Vectors of length 1 lose nothing by it.
# Source: usearch 2.26.6; its README has "i8" under "downcasting" and does not say it; USearch#405 speaks of values within -1 and 1 instead.
#   Keep "bf16" for such vectors, or rank by the inner products anew. Of a list shorter than asked for, keys end in 0 with the distance NaN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q usearch==2.26.6 numkong==7.8.6 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from usearch.index import Index

print("usearch", version("usearch"))
chance = np.random.default_rng(0)
products = chance.normal(size=(600, 16)) * np.exp(chance.normal(size=(600, 1)))
products = (products / np.linalg.norm(products, axis=1).max()).astype(np.float32)  # no length above 1, so no value beyond -1 and 1
shoppers = chance.normal(size=(50, 16)).astype(np.float32)
shoppers /= np.linalg.norm(shoppers, axis=1, keepdims=True)
inner = shoppers @ products.T
exact = {
    "ip": np.argsort(-inner, axis=1)[:, :10],
    "cos": np.argsort(-inner / np.linalg.norm(products, axis=1), axis=1)[:, :10],
    "l2sq": np.argsort(np.square(shoppers[:, None] - products).sum(-1), axis=1)[:, :10],
}
recall = {}
for metric in exact:
    for dtype in ("f32", "f16", "bf16", "i8"):
        index = Index(ndim=16, metric=metric, dtype=dtype, connectivity=32, expansion_add=600, expansion_search=600)
        index.add(np.arange(600), products, threads=1)
        found = index.search(shoppers, 10, threads=1)
        for truth, best in exact.items():
            recall[metric, dtype, truth] = float(np.mean([len(set(some) & set(other)) / 10 for some, other in zip(found.keys, best, strict=True)]))
        print(f"{metric} as {dtype}: recall at 10 of", {truth: round(recall[metric, dtype, truth], 2) for truth in exact}, "first distances",
              [round(float(some), 3) for some in found.distances[0, :3]])  # fmt: skip
for metric in ("ip", "l2sq"):
    assert all(recall[metric, dtype, metric] > 0.93 for dtype in ("f32", "f16", "bf16"))
    assert recall[metric, "i8", metric] < 0.5
    assert recall[metric, "i8", "cos"] > 0.9

index = Index(ndim=16, metric="ip", dtype="f32")
index.add(np.arange(100, 105), products[:5], threads=1)
few = index.search(shoppers[:2], 8, threads=1)
print("of five products numbered from 100, eight asked for:", few.keys.tolist(), "counts", few.counts.tolist())
assert (few.keys[:, 5:] == 0).all() and np.isnan(few.distances[:, 5:]).all()
PYTHON

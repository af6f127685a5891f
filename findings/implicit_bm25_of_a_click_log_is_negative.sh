#!/usr/bin/env bash
# Guess: bm25_weight(clicks) weighs a pair of user and product by its clicks, whether the matrix is COO, a row per click, or that one in CSR
#   (scipy takes both for one matrix, and its log1p, power and sign do).
# Happens: a COO matrix is weighed entry by entry: 16 clicks of a pair are 16 pairs of one click, so that nothing saturates, and the inverse
#   document frequency counts clicks for users. Where a product has more clicks than there are users its weight falls below zero and its
#   clicks add up: here half of all clicks, the best-selling products' first, have weights below -3 for about 0. An ALS model, BM25Recommender
#   or TFIDFRecommender trained on the log learns that what was clicked most is liked least. No warning.
# Source: implicit 0.7.3, implicit.nearest_neighbours.bm25_weight, tfidf_weight (bincount of X.col; their pages say "a sparse matrix").
#   .tocsr() first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q implicit==0.7.3 numpy==2.3.5 scipy==1.17.1
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import implicit
import numpy as np
from implicit.nearest_neighbours import bm25_weight, tfidf_weight
from scipy.sparse import coo_matrix

print("implicit", implicit.__version__)
chance = np.random.default_rng(0)
users, items, each = 200, 50, 30
user, item = np.repeat(np.arange(users), each), np.minimum(chance.zipf(1.3, users * each) - 1, items - 1)
log = coo_matrix((np.ones(len(user)), (user, item)), shape=(users, items))
counts = log.tocsr()
assert abs(log.copy().log1p().tocsr() - counts.log1p()).max() < 1e-12  # scipy takes them for one matrix
clicks = counts.toarray()
most = np.unravel_index(clicks.argmax(), clicks.shape)
for weigh in (bm25_weight, tfidf_weight):
    of_log, of_counts = weigh(log).toarray(), weigh(counts).toarray()
    low = clicks[of_log < -3].sum() / clicks.sum(), clicks[of_counts < -3].sum() / clicks.sum()
    print(f"{weigh.__name__}: {clicks[most]:.0f} clicks of one pair weigh {of_log[most]:.2f} as a log, {of_counts[most]:.2f} as counts")
    print(f"   clicks that weigh below -3: {low[0]:.0%} as a log, {low[1]:.0%} as counts; the mean of the best-selling product")
    print(f"   {of_log[:, 0].mean():.2f} and {of_counts[:, 0].mean():.2f}, of the tenth {of_log[:, 9].mean():.2f} and {of_counts[:, 9].mean():.2f}")
    assert low[0] > 0.2 and low[1] == 0 and of_log[most] < -20 and abs(of_counts[most]) < 0.5
PYTHON

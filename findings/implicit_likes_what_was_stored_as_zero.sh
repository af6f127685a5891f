#!/usr/bin/env bash
# Guess: a matrix says what it holds: a product that was shown and not clicked, stored as 0 (csr_matrix((clicks, (user, item))) of an event log
#   stores it so), is the same as one that is not stored. == of the two matrices agrees.
# Happens: to be stored is to be liked. BPR trains on each stored zero as on a click: here it ranks by what was shown instead of by what
#   was clicked. recommend(filter_already_liked_items=True) never gives what was once shown, and ranking_metrics_at_k counts it as
#   found when it is recommended: two AUCs of one model, for one and the same set of clicks. ALS, which weighs by value, differs too
#   (a stored zero is no evidence, one that is not stored is weak evidence against). No word.
# Source: implicit 0.7.3, cpu/bpr.pyx (user_items.indices), evaluation.pyx, recommender_base.py; its pages speak of "a sparse matrix of shape
#   (users, items) containing the users' liked items". Call eliminate_zeros() first, for training and test; our baselines store none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q implicit==0.7.3 numpy==2.2.6 scipy==1.15.3
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.evaluation import ranking_metrics_at_k

warnings.simplefilter("ignore")
print("implicit", version("implicit"))
chance = np.random.default_rng(0)
users, items = 300, 40
shown = chance.random((users, items)) < np.linspace(0.9, 0.1, items)  # the shop shows the first products most
clicked = shown & (chance.random((users, items)) < np.linspace(0.02, 0.6, items))  # and shoppers click the last most
user, item = np.nonzero(shown)
log = sp.csr_matrix((clicked[user, item].astype(np.float32), (user, item)), shape=(users, items))
clean = log.copy()
clean.eliminate_zeros()
print(f"stored: {log.nnz} and {clean.nnz}; places where the two matrices differ: {(log != clean).nnz}")
rate = clicked.sum(0) / np.maximum(shown.sum(0), 1)
found = {}
for name, matrix in (("with zeros", log), ("without", clean)):
    bpr = BayesianPersonalizedRanking(factors=4, iterations=100, random_state=1, num_threads=1)
    bpr.fit(matrix, show_progress=False)
    scores = (bpr.user_factors @ bpr.item_factors.T).mean(0)
    top, _ = bpr.recommend(np.arange(users), matrix, N=5)
    again = np.mean([(shown & ~clicked)[row, picked].mean() for row, picked in enumerate(top)])
    als = AlternatingLeastSquares(factors=4, iterations=10, random_state=1, num_threads=1)
    als.fit(clean, show_progress=False)
    nothing = sp.csr_matrix((users, items), dtype=np.float32)
    figures = ranking_metrics_at_k(als, nothing, matrix, K=5, show_progress=False, num_threads=1)
    found[name] = (np.corrcoef(scores, clicked.sum(0))[0, 1], np.corrcoef(scores, shown.sum(0))[0, 1], again, figures["ndcg"], figures["auc"])
    print(f"{name}: BPR's scores and clicks {found[name][0]:.2f}, and shows {found[name][1]:.2f}; of five recommended, shown "
          f"before without a click {again:.0%}; of one ALS model nDCG@5 {figures['ndcg']:.3f}, AUC {figures['auc']:.3f}")
zeros, without = found["with zeros"], found["without"]
assert (log != clean).nnz == 0
assert zeros[1] > 0.5 > without[1]
assert zeros[2] == 0 < without[2]
assert abs(zeros[3] - without[3]) > 0.05
assert without[4] - zeros[4] > 0.05
PYTHON

#!/usr/bin/env bash
# Guess: precision_at_k is the mean over users of hits / K, as with trec_eval, scikit-learn's samples average and RecBole.
# Happens: all hits of all users over the sum of min(K, products a user has in the test set): here 0.82 where that mean is 0.45. A
#   shopper with one purchase counts 1 when it is found, and who bought much weighs more than who bought little. No figure of
#   another library can be set beside it, and it hardly falls as K grows.
# Source: implicit 0.7.3, implicit/evaluation.pyx, ranking_metrics_at_k (`pr_div += fmin(K, likes.size())`), which the page does not say.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q implicit==0.7.3 numpy==2.2.6 scipy==1.15.3
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.evaluation import ranking_metrics_at_k

print("implicit", version("implicit"))
model = AlternatingLeastSquares(factors=12)  # recommends 0, 1, 2, … to everybody
model.item_factors = np.eye(12, dtype=np.float32)
model.user_factors = np.tile(np.arange(12, 0, -1, dtype=np.float32), (2, 1))
bought = np.zeros((2, 12), dtype=np.float32)
bought[0, 0] = 1
bought[1, [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]] = 1
k = 10
found = ranking_metrics_at_k(
    model, sp.csr_matrix((2, 12), dtype=np.float32), sp.csr_matrix(bought), K=k, show_progress=False, num_threads=1
)["precision"]
hits = bought[:, :k].sum(axis=1)
mean = float((hits / k).mean())
over = float(hits.sum() / np.minimum(k, bought.sum(axis=1)).sum())
print(f"hits at {k}: {hits.tolist()} of {bought.sum(axis=1).tolist()} bought")
print(f"implicit {found:.3f}, mean of hits / {k} {mean:.3f}, all hits over all that could be found {over:.3f}")
assert abs(found - over) < 1e-6
assert abs(found - mean) > 0.3
PYTHON

#!/usr/bin/env bash
# Guess: recommend(user, liked, N=10) gives at most as many products as there are left, without those already liked; where a
#   batch has users with fewer, their rows are marked by -1.
# Happens: ALS and BPR fill up to N. First come the liked products, with a score of -3.4e38; behind them product 0, as often as it
#   takes, with a score of 0.0, which is above every product with a negative score: sorted or filtered by score, or counted,
#   product 0 is recommended to everybody. Neighbourhood models fill a batch with -1 (in Python the last product) and give a
#   single user a shorter row, so that the same user has another list alone than in a batch.
# Source: implicit 0.7.3, implicit/cpu/topk.pyx; its pages say of N only "the number of results to return".
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
from implicit.nearest_neighbours import CosineRecommender

warnings.simplefilter("ignore")
print("implicit", version("implicit"))
likes = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32))
als = AlternatingLeastSquares(factors=2, iterations=5, random_state=0)
als.fit(likes, show_progress=False)
ids, scores = als.recommend(0, likes[0], N=8)
print("ALS, user 0 who likes 0 and 1:", ids.tolist(), [float(f"{score:.2g}") for score in scores])
assert set(ids[:2].tolist()) == {2, 3}
assert set(ids[2:4].tolist()) == {0, 1}
assert (scores[2:4] < -1e38).all()
assert ids[4:].tolist() == [0] * 4
assert scores[4:].tolist() == [0.0] * 4
near = CosineRecommender(K=4)
near.fit(likes, show_progress=False)
alone, batch = near.recommend(3, likes[3], N=3)[0], near.recommend([0, 3], likes[[0, 3]], N=3)[0]
print("cosine, user 3 alone:", alone.tolist(), "in a batch:", batch[1].tolist())
assert alone.tolist() == [3]
assert batch[1].tolist() == [3, -1, -1]
PYTHON

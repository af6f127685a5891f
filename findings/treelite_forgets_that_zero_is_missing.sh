#!/usr/bin/env bash
# Guess: treelite.frontend.from_lightgbm(ranker) scores as LightGBM does, for a model trained with zero_as_missing as well (counts and rates where
#   0 stands for "no data"), or refuses it, as it refuses linear trees.
# Happens: it is read without a word, and both zeros and missing values go the wrong way: 0 is compared with the threshold, where LightGBM sends it
#   to the side of the missing ones. Scores are off by more than their spread in three rows of five, and nDCG falls from 1.00
#   to 0.93. Models without zero_as_missing are exact, with missing values and categories. cuML's FIL and Triton's read LightGBM through treelite.
# Source: treelite 4.8.1, src/model_loader/lightgbm.cc (of the missing types of decision_type it knows NaN and None); treelite#376 is open since
#   2022. Train with NaN in place of 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q treelite==4.8.1 lightgbm==4.7.0 numpy==2.3.5 scipy==1.17.1 scikit-learn==1.9.1
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import lightgbm as lgb
import numpy as np
import treelite
from sklearn.metrics import ndcg_score

print("treelite", treelite.__version__, "lightgbm", lgb.__version__)
chance = np.random.default_rng(0)
lists, size = 200, 10
rate = np.where(chance.random(lists * size) < 0.6, 0, chance.normal(size=lists * size))
price = chance.normal(size=lists * size)
grades = np.where(rate == 0, 2, rate > 0.5) + (price > 0)
features = np.column_stack([rate, price])
found = {}
for name, settings in {"zero_as_missing": {"zero_as_missing": True}, "without": {}}.items():
    data = lgb.Dataset(features, grades, group=[size] * lists)
    ranker = lgb.train({"objective": "lambdarank", "num_leaves": 7, "num_threads": 1, "verbose": -1, **settings}, data, 30)
    scores = ranker.predict(features)
    served = treelite.gtil.predict(treelite.frontend.from_lightgbm(ranker), features).reshape(-1)
    off = np.abs(served - scores)
    values = [float(ndcg_score(grades.reshape(lists, size), some.reshape(lists, size))) for some in (scores, served)]
    found[name] = float(off.max()), float(np.mean(off > scores.std())), *values
    print(f"{name}: largest difference {off.max():.3f} (spread {scores.std():.3f}), above the spread in {found[name][1]:.0%} of rows; "
          f"nDCG {values[0]:.3f} of lightgbm, {values[1]:.3f} of treelite")  # fmt: skip
assert found["without"][0] < 1e-6
assert found["zero_as_missing"][0] > 1 and found["zero_as_missing"][2] - found["zero_as_missing"][3] > 0.05
PYTHON

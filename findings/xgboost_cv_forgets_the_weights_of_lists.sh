#!/usr/bin/env bash
# Guess: xgb.cv of a DMatrix with lists (qid=) and a weight per list trains and measures with these weights, as xgb.train does; or
#   refuses it, as it refuses folds= for such data ("slice does not support group structure").
# Happens: it makes the folds of whole lists itself, hands labels and lists on, and not the weights. The figures are those
#   without weights to the last digit, however large these are: lists weighted by propensity or by age count alike in cv and
#   not in training, and whoever compares weightings by cv finds that they make no difference. No warning.
# Source: xgboost 3.2.0, python-package/xgboost/training.py, mkgroupfold (slice(…, allow_groups=True), then set_group alone);
#   xgboost.readthedocs.io, xgboost.cv. Make the folds yourself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/pip" install -q --no-deps xgboost==3.2.0  # without NCCL, which no CPU needs
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import xgboost as xgb

print("xgboost", xgb.__version__)
chance = np.random.default_rng(0)
lists, size = 80, 10
features = chance.normal(size=(lists * size, 3))
old = np.arange(lists) < lists // 2  # in the older half of the log another feature made shoppers click
asked = np.where(np.repeat(old, size), features[:, 1], features[:, 0])
clicked = (asked + chance.normal(size=lists * size) > 0.5).astype(int)
clicked[::size] = 1  # every list has a click
number = np.repeat(np.arange(lists), size)
settings = dict(objective="rank:ndcg", nthread=1, eval_metric=["ndcg@3-", "map@3-"], seed=0)
weights = {"none": None, "new lists only": np.where(old, 0.001, 1.0), "old lists only": np.where(old, 1.0, 0.001)}
cv, trained = {}, {}
for name, weight in weights.items():
    data = xgb.DMatrix(features, clicked, qid=number)
    if weight is not None:
        data.set_weight(weight)
    found = xgb.cv(settings, data, 10, nfold=4, seed=0, as_pandas=False)
    cv[name] = {key: figures[-1] for key, figures in found.items()}
    model = xgb.train(settings, data, 10)
    gain = model.get_score(importance_type="total_gain")
    trained[name] = gain["f0"] / (gain["f0"] + gain["f1"])
    print(f"{name}: cv's nDCG@3 {cv[name]['test-ndcg@3--mean']:.6f}; of the gain in training the newer feature has {trained[name]:.2f}")
assert cv["none"] == cv["new lists only"] == cv["old lists only"], "cv sees the weights now"
assert trained["new lists only"] > 0.6 > 0.3 > trained["old lists only"]
PYTHON

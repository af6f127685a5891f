#!/usr/bin/env bash
# Guess: a row of weight 0 is as good as not there, as in every other objective of LightGBM and in scikit-learn. Products below the last one
#   that was seen get weight 0 and are neither trained on nor measured; a click of weight w counts w times in each of its pairs.
# Happens: the weight multiplies a row's own gradient alone. A row of weight 0 stays in every pair: the others are pushed above it or
#   below it by its label, and it takes its place in nDCG. Here labels of rows of weight 0 are turned over, and the model and
#   its nDCG are others. Of a pair, each row is moved by its own weight: a click of weight 10 is pulled up ten times as far and
#   the product below it is pushed down once. nDCG of validation weighs lists, by the mean weight of their rows.
# Source: lightgbm 4.7.0, src/objective/rank_objective.hpp (a row's lambda, times its weight), src/io/metadata.cpp (weights of lists); the
#   pages say only "weight for each instance". Drop the rows. XGBoost takes one weight per list.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.7.0 numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/python" - <<'PYTHON'
import lightgbm as lgb
import numpy as np

print("lightgbm", lgb.__version__)
chance = np.random.default_rng(0)
lists, size = 400, 10
features = chance.normal(size=(lists * size, 3))
labels = (features[:, 0] + chance.normal(size=lists * size) > 0.5).astype(int)
unseen = np.tile(np.arange(size) >= 5, lists)  # the lower half of the page, which nobody looked at
turned = np.where(unseen, features[:, 1] > 0, labels).astype(int)  # what their labels say has nothing to do with the rest
settings = dict(num_leaves=7, num_threads=1, verbose=-1, seed=1, metric="ndcg", eval_at=[3])


def run(objective, labels, keep=None, weight=None):
    rows = slice(None) if keep is None else keep
    group = [size] * lists if keep is None else [size // 2] * lists
    data = lgb.Dataset(features[rows], labels[rows], weight=weight, group=group, params={"verbose": -1})
    seen = {}
    metric = "ndcg" if objective == "lambdarank" else "binary_logloss"
    callback = lgb.record_evaluation(seen)
    model = lgb.train({**settings, "objective": objective, "metric": metric}, data, 20, [data], ["rows"], callbacks=[callback])
    return model.predict(features, raw_score=True), list(seen["rows"].values())[0][-1]


found = {}
for objective in ("binary", "lambdarank"):
    none = np.where(unseen, 0.0, 1.0)
    (dropped, dropped_metric), (zero, zero_metric) = run(objective, labels, ~unseen), run(objective, labels, None, none)
    other, other_metric = run(objective, turned, None, none)
    found[objective] = np.corrcoef(dropped, zero)[0, 1], np.corrcoef(zero, other)[0, 1]
    print(f"{objective}: rows dropped against weight 0, correlation of the scores {found[objective][0]:.3f}; labels of weight 0 turned, "
          f"{found[objective][1]:.3f}; metric {dropped_metric:.3f}, {zero_metric:.3f}, {other_metric:.3f}")
    if objective == "binary":
        assert np.allclose(zero, other)
    else:
        assert found[objective][0] < 0.99
        assert found[objective][1] < 0.97
        assert abs(zero_metric - other_metric) > 0.02
PYTHON

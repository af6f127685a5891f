#!/usr/bin/env bash
# Guess: nDCG with a weight per list is the weighted mean of the lists' nDCG, where a list without a click counts 1 (or, with "ndcg-", 0);
#   weights ten times as large, or as small, give the same figure.
# Happens: a list without a click adds 1, whatever its weight, to a sum that is divided by the sum of the weights. Weights ten times as
#   large give 0.80 for 0.90, with one model and one set of lists; and weights a tenth as large give more than 1, which XGBoost then
#   refuses ("Invalid output score, might be caused by invalid query group weight"). Lists weighted by propensity, by revenue or
#   by age are measured wrong wherever one had no click. map of the same lists is the weighted mean, and so is "ndcg-".
# Source: xgboost 3.2.0, src/metric/rank_metric.cc, EvalNDCG; xgboost.readthedocs.io, "Learning to Rank" and "Parameters" (of ndcg- they say
#   that such lists count 0, of weights nothing). Use ndcg@10-, or leave such lists out.
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
lists, size = 100, 8
features = chance.normal(size=(lists * size, 4))
clicked = (features[:, 0] + chance.normal(size=lists * size) > 1).astype(int)
number = np.repeat(np.arange(lists), size)
metrics = ["ndcg@3", "ndcg@3-", "map@3", "map@3-"]
settings = dict(objective="rank:ndcg", nthread=1, eval_metric=metrics)
model = xgb.train(settings, xgb.DMatrix(features, clicked, qid=number), 3)


def measure(rows, weight=None):
    data = xgb.DMatrix(features[rows], clicked[rows], qid=number[rows])
    if weight is not None:
        data.set_weight(weight)
    try:
        return [float(figure.rpartition(":")[2]) for figure in model.eval(data).split("\t")[1:]]
    except xgb.core.XGBoostError as error:
        assert "Invalid output score" in str(error), error
        return None


each = np.array([measure(number == n) for n in range(lists)])
empty = np.array([not clicked[number == n].any() for n in range(lists)])
base = chance.uniform(0.5, 1.5, lists)
print(f"{empty.sum()} of {lists} lists without a click")
found = {}
for times in (1, 10, 0.1):
    weight = base * times
    found[times] = measure(number >= 0, weight)
    shown = found[times] and dict(zip(metrics, np.round(found[times], 4).tolist()))
    print(f"weights times {times}: {shown or 'refused'}")
mean = (each * base[:, None]).sum(0) / base.sum()
print("weighted means:", dict(zip(metrics, np.round(mean, 4).tolist())))
assert found[0.1] is None
for column in (1, 2, 3):
    assert abs(found[10][column] - mean[column]) < 1e-6
for times in (1, 10):
    as_seen = ((each[:, 0] * base * times)[~empty].sum() + empty.sum()) / (base.sum() * times)
    assert abs(found[times][0] - as_seen) < 1e-6
assert found[1][0] - found[10][0] > 0.05
PYTHON

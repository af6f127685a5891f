#!/usr/bin/env bash
# Guess: a list without any relevant item has nDCG 0, or is left out of the mean, as with scikit-learn and trec_eval; and
#   scores that are all equal get the nDCG of a random order, as ties do with scikit-learn.
# Happens: LightGBM and XGBoost count 1 for such a list. Here the one clicked item of four stands last, nDCG 0.43, and a
#   second list has no click: both libraries report 0.715, scikit-learn's mean is 0.215. Of a log where most searches end
#   without a click, early stopping shows a number near 1 that hardly moves, and it cannot be compared with any other
#   library's. Equal scores keep the order of the rows, so a model that learned nothing reports what the first stage has.
# Source: LightGBM 4.6.0, whose page of parameters says of the metric only its name; XGBoost's says that a minus behind
#   the name counts 0 (it does). scikit-learn 1.9.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.6.0 xgboost-cpu==3.2.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import lightgbm
import numpy as np
import xgboost
from sklearn.metrics import ndcg_score

features = np.arange(8.0)[:, None]
clicks = np.array([0, 0, 0, 1, 0, 0, 0, 0])
lists = [4, 4]
first_stage = np.array([4.0, 3, 2, 1, 4, 3, 2, 1])


def by_lightgbm(scores: np.ndarray) -> float:
    found: dict = {}
    train = lightgbm.Dataset(features, clicks, group=lists, params={"verbose": -1})
    valid = lightgbm.Dataset(features, clicks, group=lists, init_score=scores, reference=train)
    parameters = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [4], "min_data_in_leaf": 100, "verbose": -1}
    lightgbm.train(
        parameters, train, 1, valid_sets=[valid], valid_names=["v"], callbacks=[lightgbm.record_evaluation(found)]
    )
    return float(found["v"]["ndcg@4"][0])


def by_xgboost(scores: np.ndarray, metric: str) -> float:
    data = xgboost.DMatrix(features, clicks, base_margin=scores)
    data.set_group(lists)
    model = xgboost.train({"objective": "rank:ndcg", "eval_metric": metric}, data, 0)
    return float(model.eval(data).split(":")[-1])


def by_scikit_learn(scores: np.ndarray) -> float:
    return float(np.mean([ndcg_score([clicks[n : n + 4]], [scores[n : n + 4]]) for n in (0, 4)]))


found = {
    what: [by_lightgbm(scores), by_xgboost(scores, "ndcg@4"), by_xgboost(scores, "ndcg@4-"), by_scikit_learn(scores)]
    for what, scores in (("first-stage order", first_stage), ("equal scores", np.zeros(8)))
}
print("lightgbm", lightgbm.__version__, "xgboost", xgboost.__version__)
print(f"{'':<18} lightgbm  xgboost  xgboost with minus  scikit-learn")
for what, values in found.items():
    print(f"{what:<18}", *(f"{value:8.3f}" for value in values))
last = 1 / np.log2(5)
expected = {
    "first-stage order": [(last + 1) / 2, (last + 1) / 2, last / 2, last / 2],
    "equal scores": [(last + 1) / 2, (last + 1) / 2, last / 2, sum(1 / np.log2(np.arange(2, 6))) / 8],
}
if any(not np.allclose(found[what], expected[what], atol=1e-6) for what in expected):
    sys.exit("it changed")
PYTHON

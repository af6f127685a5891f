#!/usr/bin/env bash
# Guess: onnxmltools.convert_lightgbm(ranker) scores in onnxruntime as LightGBM does, with linear leaves (linear_tree) and as a random forest
#   (boosting="rf") too, or refuses what it does not know, as it refuses the objective "cross_entropy".
# Happens: both are converted without a word. Of a linear leaf the slopes are left out and its mean is kept: other scores, and another order
#   in nine lists of ten. The trees of a forest are added up and not averaged: with 30 trees 30 times the score, and an expected count
#   (poisson) of 0.5 is 0.5 to the 30th power. Plain and dart models are exact.
# Source: onnxmltools 1.16.0, convert/lightgbm/_parse.py: a Booster is "rf" by the parameter average_output, which lightgbm 4.7.0 has in
#   the model's text alone; is_linear is asked for nowhere (onnxruntime#25623, hummingbird#807 saw other outputs). Compare a few rows
#   with predict after each conversion; treelite refuses linear leaves and averages forests.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxmltools==1.16.0 onnx==1.23.2 skl2onnx==1.20.0 onnxruntime==1.32.0 lightgbm==4.7.0 numpy==2.4.6 \
    scipy==1.17.1 scikit-learn==1.9.1
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import lightgbm as lgb
import numpy as np
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxruntime import InferenceSession

print("onnxmltools", version("onnxmltools"), "lightgbm", lgb.__version__, "onnxruntime", version("onnxruntime"))
chance = np.random.default_rng(0)
lists, size = 200, 10
features = chance.normal(size=(lists * size, 4)).astype(np.float32)
grades = (features[:, 0] + features[:, 1] * features[:, 2] > 0.5).astype(int) + (features[:, 3] > 1)
forest = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
found = {}
for name, settings in {
    "plain": {},
    "dart": {"boosting": "dart"},
    "linear leaves": {"linear_tree": True},
    "forest": forest,
    "forest, poisson": {**forest, "objective": "poisson"},
}.items():
    common = {"objective": "lambdarank", "num_leaves": 7, "num_threads": 1, "seed": 1, "verbose": -1}
    ranker = lgb.train({**common, **settings}, lgb.Dataset(features, grades, group=[size] * lists), 30)
    with warnings.catch_warnings(record=True) as words:
        warnings.simplefilter("always")
        model = onnxmltools.convert_lightgbm(ranker, initial_types=[("x", FloatTensorType([None, 4]))])
    about = [str(word.message) for word in words if "linear" in str(word.message) or "average" in str(word.message)]
    scores = ranker.predict(features)
    served = InferenceSession(model.SerializeToString()).run(None, {"x": features})[0].reshape(-1)
    first = [some.reshape(lists, size).argmax(1) for some in (scores, served)]
    orders = [np.argsort(-some.reshape(lists, size), axis=1, kind="stable") for some in (scores, served)]
    found[name] = float(np.abs(served - scores).max() / scores.std()), float((orders[0] != orders[1]).any(1).mean()), float(np.median(served / scores))
    print(f"{name}: largest difference {found[name][0]:.2g} spreads, another order in {found[name][1]:.0%} of lists, another product first in "
          f"{(first[0] != first[1]).mean():.0%}; median of onnx / lightgbm {found[name][2]:.4g}; warnings about it {about}")  # fmt: skip
    assert about == []
assert found["plain"][0] < 1e-5 and found["dart"][0] < 1e-5
assert found["linear leaves"][0] > 0.5 and found["linear leaves"][1] > 0.5
assert abs(found["forest"][2] - 30) < 0.01
assert found["forest, poisson"][0] > 1_000 and abs(np.median(np.log(served) / np.log(scores)) - 30) < 0.1  # the last of them
PYTHON

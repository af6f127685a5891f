#!/usr/bin/env bash
# Guess: a price that is missing (NaN) when products are scored, while no product of the training data lacked one, is treated as
#   unknown: it goes the way of most rows, as in scikit-learn's trees (LightGBM's own algorithm), or is refused.
# Happens: it is read as 0. A ranker that learned that cheap products are clicked gives the product without a price the score of the
#   cheapest; with one missing price among two thousand in training, the score of the dearest. A rating that no product lacked
#   before is read as no stars likewise. No warning.
# Source: LightGBM 4.6.0, include/LightGBM/tree.h, NumericalDecision (`if (std::isnan(fval) && missing_type != MissingType::NaN) fval =
#   0.0f`); the page "Missing Value Handle" says that NaN is missing by default. Fill in such values: Reshelf's LambdaMART takes
#   the median of training (evaluation/baselines/lambdamart.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.6.0 scikit-learn==1.7.2 numpy==2.2.6 pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import lightgbm
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

print("lightgbm", lightgbm.__version__)
price = pd.DataFrame({"price": np.random.default_rng(0).uniform(5, 100, 2000)})
clicked = (price.price < 20).astype(int)
asked = pd.DataFrame({"price": [np.nan, 0, 6, 99]})
gap = price.where(price != price.max())
rankers = {
    "LightGBM": lightgbm.LGBMRanker(verbose=-1, n_estimators=20).fit(price, clicked, group=[10] * 200),
    "LightGBM, one gap in training": lightgbm.LGBMRanker(verbose=-1, n_estimators=20).fit(gap, clicked, group=[10] * 200),
    "scikit-learn": HistGradientBoostingRegressor(max_iter=20).fit(price, clicked),
}
found = {}
for name, ranker in rankers.items():
    missing, zero, cheap, dear = ranker.predict(asked).tolist()
    found[name] = abs(missing - dear) < abs(missing - cheap)  # most products are dear
    print(f"{name:30} missing {missing:6.2f}   at 0 {zero:6.2f}   at 6 {cheap:6.2f}   at 99 {dear:6.2f}")
    assert name != "LightGBM" or missing == zero
assert found == {"LightGBM": False, "LightGBM, one gap in training": True, "scikit-learn": True}
PYTHON

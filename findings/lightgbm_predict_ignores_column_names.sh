#!/usr/bin/env bash
# Guess: a ranker trained on a DataFrame knows its columns by name (feature_name() lists them): predict on a frame with the same
#   columns in another order finds them by name, or refuses, as XGBoost and scikit-learn do.
# Happens: columns are taken as they stand, and ratings are read as prices: the scores have nothing to do with those before, without
#   a warning. Only the number of columns is compared.
# Source: LightGBM 4.6.0, Booster.predict (validate_features=False by default; with True it refuses).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.6.0 xgboost-cpu==3.2.0 scikit-learn==1.7.2 numpy==2.2.6 pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import lightgbm
import numpy as np
import pandas as pd
import xgboost

print("lightgbm", lightgbm.__version__, "xgboost", xgboost.__version__)
products = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["price", "rating"])
clicks, lists = (products.price > 0).astype(int), np.repeat(np.arange(20), 10)
rankers = {
    "LightGBM": lightgbm.LGBMRanker(verbose=-1, n_estimators=10).fit(products, clicks, group=[10] * 20),
    "XGBoost": xgboost.XGBRanker(n_estimators=10).fit(products, clicks, qid=lists),
}
found = {}
for name, ranker in rankers.items():
    same = ranker.predict(products)
    try:
        found[name] = float(np.corrcoef(same, ranker.predict(products[["rating", "price"]]))[0, 1])
        print(f"{name:9} columns swapped: correlation with its own scores {found[name]:.2f}")
    except ValueError as error:
        found[name] = None
        print(f"{name:9} columns swapped: {str(error)[:60]}")
assert abs(found["LightGBM"]) < 0.3
assert found["XGBoost"] is None
try:
    rankers["LightGBM"].predict(products[["rating", "price"]], validate_features=True)
except lightgbm.basic.LightGBMError as error:
    print("LightGBM, validate_features=True:", error)
else:
    raise SystemExit("validate_features says nothing")
PYTHON

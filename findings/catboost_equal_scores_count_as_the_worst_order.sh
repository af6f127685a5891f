#!/usr/bin/env bash
# Guess: CatBoost's NDCG of candidates with equal scores is that of the rows' order (LightGBM), or the mean over all orders
#   (scikit-learn), so that a model which has learned nothing shows about what chance gives.
# Happens: equal scores are ordered worst first for the model: the wanted product last. A popularity baseline with many equal counts,
#   the first iterations of training, and quantised scores look worse than a random order. MRR, MAP, PFound and ERR alike.
# Source: CatBoost 1.2.10, catboost.utils.eval_metric; catboost.ai, "Ranking: objectives and metrics", does not say.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# Without the packages that draw its charts, which are most of the download.
"$folder/venv/bin/pip" install -q --no-deps catboost==1.2.10 numpy==2.2.6 pandas==2.3.3 scipy==1.15.3 python-dateutil==2.9.0.post0 \
    six==1.17.0 pytz==2025.2 tzdata==2025.2
"$folder/venv/bin/python" - <<'PYTHON'
import catboost
import numpy as np
from catboost.utils import eval_metric

print("catboost", catboost.__version__)
print(f"NDCG of a random order of four: {np.mean(1 / np.log2(np.arange(2, 6))):.3f}")
equal = [0.0] * 4
for labels in ([1, 0, 0, 0], [0, 0, 0, 1]):
    values = {name: eval_metric(labels, equal, name, group_id=[1] * 4)[0] for name in ("NDCG", "MRR", "MAP")}
    print(f"labels {labels}, equal scores:", {name: round(value, 3) for name, value in values.items()})
    assert np.isclose(values["NDCG"], 1 / np.log2(5))
    assert values["MRR"] == values["MAP"] == 0.25
PYTHON

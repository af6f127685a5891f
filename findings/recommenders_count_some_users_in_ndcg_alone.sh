#!/usr/bin/env bash
# Guess: precision@k, recall@k, MAP and nDCG of one table are of the same users: those for whom the model recommended nothing count 0 in each,
#   or are left out of each.
# Happens: nDCG counts them as 0, all others leave them out. A model that answers for one shopper in two, and well, has a recall of 0.75 and an
#   nDCG of 0.40: half of it is who was asked. The model that keeps silent where it is unsure wins by recall and precision, and nothing says
#   how many users a figure is of.
# Source: recommenders 1.2.1, evaluation.python_evaluation: merge_ranking_true_pred takes the users that are in both tables; ndcg_at_k then joins
#   all true ratings again. Fill the recommendations of every user of the test set first (say with the most popular).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-deps recommenders==1.2.1
"$folder/venv/bin/pip" install -q pandas==3.1.1 numpy==2.3.5 scikit-learn==1.9.1 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import pandas as pd
from recommenders.evaluation import python_evaluation as measures

print("recommenders", importlib.metadata.version("recommenders"))
test = pd.DataFrame({"userID": [1, 1, 2, 2, 3, 4], "itemID": [10, 11, 10, 12, 13, 14], "rating": 1.0})
recommended = pd.DataFrame({"userID": [1, 1, 2, 2], "itemID": [10, 11, 10, 15], "prediction": [0.9, 0.8, 0.9, 0.8]})
found = {}
for name in ("precision_at_k", "recall_at_k", "map_at_k", "ndcg_at_k"):
    measure = getattr(measures, name)
    found[name] = [round(float(measure(some, recommended, k=2)), 3) for some in (test, test[test.userID < 3])]
    print(f"{name:15} of four users {found[name][0]}, of the two with recommendations {found[name][1]}")
assert all(found[name][0] == found[name][1] for name in ("precision_at_k", "recall_at_k", "map_at_k"))
assert found["recall_at_k"][0] == 0.75 and found["ndcg_at_k"] == [0.403, 0.807]
PYTHON

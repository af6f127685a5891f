#!/usr/bin/env bash
# Guess: lgb.train(init_model=last night's ranker) adds trees to it. Each tree knows its brands by name, as predict does, whatever order
#   tonight's table has them in; or categories that differ are refused, as they are between training and validation.
# Happens: a model keeps one list of categories, tonight's, for all of its trees. The trees of last night read tonight's codes by it: here,
#   with one brand more (the first by alphabet), every old tree takes each brand for its neighbour, and nDCG falls from 1.0 to 0.53 by
#   an update that changes next to nothing (a learning rate of 1e-9). No warning; a new brand behind the others does no harm.
# Source: lightgbm 4.7.0, Booster.pandas_categorical (taken from the train set; the old model's own is used for its init scores only). Give
#   the column pd.CategoricalDtype(all brands ever, in one order), new ones at the end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.7.0 numpy==2.3.5 scipy==1.17.1 pandas==3.1.1 scikit-learn==1.9.1
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.metrics import ndcg_score

warnings.simplefilter("error")
print("lightgbm", lgb.__version__)
chance = np.random.default_rng(0)
brands = ["Berg", "Coro", "Dahl", "Elva", "Faro", "Gant"]
wanted = dict(zip(brands, [0, 2, 0, 1, 0, 2]))
lists, size = 300, 6
shown = np.concatenate([chance.permutation(brands) for _ in range(lists)])
labels = np.array([wanted[brand] for brand in shown])
settings = dict(objective="lambdarank", num_leaves=7, min_data_in_leaf=5, min_data_per_group=5, cat_smooth=1, num_threads=1, verbose=-1)


def table(categories):
    return pd.DataFrame({"brand": pd.Categorical(shown, categories=categories), "price": np.ones(len(shown))})


def ndcg(model, categories):
    scores = model.predict(table(categories))
    return round(float(ndcg_score(labels.reshape(lists, size), scores.reshape(lists, size))), 3)


def data(categories):
    return lgb.Dataset(table(categories), labels, group=[size] * lists, free_raw_data=False)


last_night = lgb.train(settings, data(brands), 20)
found = {}
for name, categories in {"as before": brands, "one more, first": ["Alba", *brands], "turned": brands[::-1], "one more, last": [*brands, "Zeta"]}.items():
    tonight = lgb.train(settings | {"learning_rate": 1e-9}, data(categories), 1, init_model=last_night)
    found[name] = ndcg(last_night, categories), ndcg(tonight, categories)
    print(f"{name:16} last night's ranker {found[name][0]}, updated {found[name][1]}; it keeps {tonight.pandas_categorical}")
    assert tonight.num_trees() == 21
assert all(before > 0.95 for before, _ in found.values())
assert found["as before"][1] == found["as before"][0] and found["one more, last"][1] == found["one more, last"][0]
assert found["one more, first"][1] < 0.8 and found["turned"][1] < 0.8
PYTHON

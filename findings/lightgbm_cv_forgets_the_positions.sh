#!/usr/bin/env bash
# Guess: lgb.cv of a Dataset with position= (unbiased LambdaMART, which learns how much a place on the page draws clicks) measures that,
#   as it keeps label, weight, group and init_score; or it says that it cannot.
# Happens: positions are left out by Dataset.subset, with which cv makes its folds. cv measures the biased ranker: figures with and without
#   positions are the same to the last digit, so that a comparison of the two, or a search for
#   lambdarank_position_bias_regularization by cv, finds that it makes no difference. No warning.
# Source: lightgbm 4.7.0, Dataset.subset (get_position() of the subset is None), lgb.cv; lightgbm.readthedocs.io, "Advanced Topics", "Support
#   for Position Bias Treatment". Make the folds yourself and give each its positions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lightgbm==4.7.0 numpy==2.2.6 scipy==1.15.3 scikit-learn==1.7.2
"$folder/venv/bin/python" - <<'PYTHON'
import lightgbm as lgb
import numpy as np

print("lightgbm", lgb.__version__)
chance = np.random.default_rng(0)
lists, size = 400, 10
features = chance.normal(size=(lists * size, 3))
place = np.tile(np.arange(size), lists)
seen = chance.random(lists * size) < 1 / (1 + place)
clicked = (seen & (features[:, 0] + chance.normal(size=lists * size) > 0)).astype(int)
features[:, 2] = -place + chance.normal(size=lists * size)  # a feature that knows the place, as the old ranker's score does
settings = dict(objective="lambdarank", metric="ndcg", eval_at=[5], num_leaves=7, num_threads=1, verbose=-1, seed=1)


def rows(positions, subset):
    made = lgb.Dataset(features, clicked, group=[size] * lists, free_raw_data=False, position=place if positions else None)
    return made.subset(list(range(lists * size))) if subset else made


def importance(data):
    gain = lgb.train(settings, data, 20).feature_importance("gain")
    return [round(float(share), 4) for share in gain / gain.sum()]


cv, whole, part = {}, {}, {}
for positions in (False, True):
    cv[positions] = lgb.cv(settings, rows(positions, False), 20, nfold=4, stratified=False)["valid ndcg@5-mean"]
    whole[positions], part[positions] = importance(rows(positions, False)), importance(rows(positions, True))
    print(f"positions {positions}: cv's nDCG@5 {cv[positions][-1]:.6f}; shares of gain {whole[positions]}, "
          f"of a subset of all rows {part[positions]}")
assert cv[False] == cv[True], "cv sees the positions now"
assert whole[False] != whole[True]
assert part[True] == part[False] == whole[False]
PYTHON

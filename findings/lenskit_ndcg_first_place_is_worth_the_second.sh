#!/usr/bin/env bash
# Guess: nDCG falls with every place: a list with its one wanted product first has 1, second 0.63, third 0.5, as with trec_eval, scikit-learn,
#   LightGBM and ranx, which divide a gain by log2(1 + place).
# Happens: 1, 1, 0.63, 0.5. LensKit divides by log2(place), and the first by 1, as the first paper had it: first and second place
#   are worth the same, and from there on each place has the value that others give the place before. A reranker that brings the
#   wanted product from second to first gains nothing; figures are higher than anyone else's; and of two systems the other one may
#   be the better by them.
# Source: lenskit 2025.8.1, lenskit.metrics.NDCG ("The default, base-2 logarithm, is the original function"), and DCG. For the usual one pass
#   a discount of your own, log2(place + 1), as below. reshelf.metrics has the usual one. Some 3 GB on disk, for its torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lenskit==2025.8.1 torch==2.13.0 numpy==2.2.6 pandas==2.3.3
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from lenskit.data import ItemList
from lenskit.metrics import NDCG

warnings.simplefilter("ignore")
print("lenskit", version("lenskit"))
wanted = ItemList(["wanted"])
others = [f"other {n}" for n in range(9)]
found, usual = [], []
for place in range(1, 11):
    ranked = ItemList([*others[: place - 1], "wanted", *others[place - 1 :]], ordered=True)
    found.append(NDCG(10).measure_list(ranked, wanted))
    usual.append(1 / np.log2(place + 1))
    shifted = NDCG(10, discount=lambda places: np.log2(np.asarray(places) + 1)).measure_list(ranked, wanted)
    print(f"place {place}: LensKit {found[-1]:.3f}, usual {usual[-1]:.3f}, LensKit with log2(place + 1) {shifted:.3f}")
    assert abs(shifted - usual[-1]) < 1e-9
assert found[0] == found[1] == 1
assert abs(usual[1] - 0.631) < 1e-3
assert np.allclose(found[1:], usual[:-1])
# System a has one shopper's product first and the other's tenth; b has both at the third place.
scores = {"a": (1, 10), "b": (2, 3)}
by = {name: [np.mean([values[place - 1] for place in places]) for values in (found, usual)] for name, places in scores.items()}
print({name: [round(float(value), 3) for value in values] for name, values in by.items()})
assert by["a"][0] < by["b"][0]
assert by["a"][1] > by["b"][1]
PYTHON

#!/usr/bin/env bash
# Guess: a matrix of clicks, coo_matrix((ones, (user, item))), has the number of clicks of a pair in its cell, and .sum() is the number of all
#   clicks. Ones of int8 or uint8, taken to save memory, do no harm to a sum: numpy's sum of 300 of them is 300.
# Happens: the rows of one pair are added up in the type of the ones, by tocsr(), toarray() and .sum() alike, before anything is widened:
#   300 clicks are 44, 200 in int8 are -56 and 256 are 0, a stored cell of no clicks. Ones of bool count 1 however many there are. No warning.
# Source: scipy 1.17.1, sparse.coo_matrix ("duplicate entries will be summed together"), sum ("dtype … if a has an integer dtype of less precision
#   than the default platform integer … the platform integer is used"); known since 2019 (scipy#9722). Ones of float32 or int32.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scipy==1.17.1 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import scipy
from scipy import sparse

warnings.simplefilter("error")
print("scipy", scipy.__version__)
found = {}
for name in ("uint8", "int8", "bool", "float32"):
    for clicks in (200, 256, 300):
        ones, cell = np.ones(clicks, dtype=name), np.zeros(clicks, dtype=int)
        made = sparse.coo_matrix((ones, (cell, cell)), shape=(1, 1))
        figures = {int(made.tocsr()[0, 0]), int(made.toarray()[0, 0]), int(made.sum())}
        assert len(figures) == 1 and (name == "bool" or int(ones.sum()) == clicks)
        found[name, clicks] = figures.pop()
        print(f"{clicks} clicks as {name}: {found[name, clicks]} of scipy, {int(ones.sum())} of numpy")
assert found == {
    ("uint8", 200): 200, ("uint8", 256): 0, ("uint8", 300): 44,
    ("int8", 200): -56, ("int8", 256): 0, ("int8", 300): 44,
    ("bool", 200): 1, ("bool", 256): 1, ("bool", 300): 1,
    ("float32", 200): 200, ("float32", 256): 256, ("float32", 300): 300,
}  # fmt: skip
PYTHON

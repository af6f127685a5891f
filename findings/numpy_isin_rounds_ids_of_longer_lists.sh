#!/usr/bin/env bash
# Guess: np.isin(item_ids, wanted), int64 against uint64 (an id hashed elsewhere), is exact, as item_ids == wanted is; or rounds both to float64
#   always, so that a test on a few ids shows it.
# Happens: it is exact while `wanted` is short (up to 14 ids for 15 items, 74 for a million) and rounds for more: of 100 ids above 2^53, none of
#   which is wanted, 63 are found in a list of 100, in lists of 5 or 10 none. np.setdiff1d (the products not yet seen) then leaves out
#   products that were never seen. No warning.
# Source: numpy 2.4.6, numpy.lib._arraysetops_impl._isin: short lists go by ==, longer ones by np.concatenate, which makes float64 of int64
#   and uint64; the page of isin does not say it. One type first: wanted.astype(np.int64), or .view where ids pass 2^63.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np

print("numpy", np.__version__)
found = {}
for size in (5, 10, 30, 100, 10_000):
    chance = np.random.default_rng(0)
    seen = (2**53 + 2 * chance.permutation(1_000_000)[:size]).astype(np.uint64)
    shown = (seen + 1).astype(np.int64)  # neighbours of what was seen; none of them was
    exact = int((shown[:, None] == seen).any(1).sum()) if size <= 100 else 0
    found[size] = int(np.isin(shown, seen).sum()), len(np.setdiff1d(shown, seen)), int(np.isin(shown, seen.astype(np.int64)).sum())
    print(f"{size:6} ids: == finds {exact}, isin {found[size][0]}, isin in one type {found[size][2]}; setdiff1d leaves {found[size][1]}")
    assert exact == found[size][2] == 0
assert found[5][0] == found[10][0] == 0
for size in (100, 10_000):
    assert 0.4 * size < found[size][0] and found[size][1] < 0.6 * size
PYTHON

#!/usr/bin/env bash
# Guess: with_format("numpy") gives a column in the type that the data set has: float64 stays float64, uint64 stays uint64.
# Happens: every float becomes float32 and every whole number int64, without a word. A time in seconds with its fraction is up to 64
#   seconds off, and two within two minutes are one or 128 seconds apart; of a list of ids with one missing, all become float32; and an id
#   from a 64-bit hash comes back negative, so that it is found in no other table. "torch" does the same, "pandas" and "arrow" do not.
# Source: datasets 5.2.0, formatting/np_formatter.py, _tensorize (dtype=… may be given, one for all columns). Read ids and times
#   with "arrow" or "pandas".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import datasets
import numpy as np

print("datasets", version("datasets"), "numpy", np.__version__)
SEARCH, CLICK, ID, WHOLE = 1772359230.5, 1772359250.25, 2**63 + 5, 16_777_217
table = datasets.Dataset.from_dict(
    {"time": [SEARCH, CLICK], "item_id": np.array([ID, 7], dtype=np.uint64), "seen": [[WHOLE, 7], [WHOLE, None]]}
)
print(table.features)
rows = table.with_format("numpy")[:]
times, ids = rows["time"].tolist(), rows["item_id"].tolist()
seen = [table.with_format("numpy")[n]["seen"].tolist() for n in (0, 1)]
print("times ", [SEARCH, CLICK], "->", rows["time"].dtype, times)
print("ids   ", [ID, 7], "->", rows["item_id"].dtype, ids)
print("lists ", table["seen"][:], "->", seen)
assert rows["time"].dtype == np.float32 and times == [1772359168.0, 1772359296.0]
assert ids == [ID - 2**64, 7]
assert seen[0] == [WHOLE, 7] and seen[1][0] == WHOLE - 1
frame = table.with_format("pandas")[:]
assert frame["time"].tolist() == [SEARCH, CLICK] and frame["item_id"].tolist() == [ID, 7]
PYTHON

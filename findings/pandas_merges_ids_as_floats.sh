#!/usr/bin/env bash
# Guess: merge compares whole numbers as whole numbers, also where one side is uint64 and the other int64: as == and isin of the
#   same two columns do; or it is refused, as a merge of numbers with text is.
# Happens: both are compared as float64. Ids above 2^53 that differ in their last digits are one: the click of one product gets the
#   title of its neighbour, under its own id. It depends on the rows beside it: where all ids lie close together, or one row is
#   tried, the two are told apart. concat of the two columns rounds the ids themselves. (A hash of 64 bits is unsigned, what a
#   database holds is signed.)
# Source: pandas 3.1.1, reshape/merge.py, _factorize_keys (find_common_type); its pages say nothing of it. Give both one type first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pandas as pd

print("pandas", pd.__version__)
ID = 2**53
clicks = pd.DataFrame({"item_id": np.array([ID + 1, 7], dtype=np.uint64)})
items = pd.DataFrame({"item_id": np.array([ID, 8], dtype=np.int64), "title": ["oak lamp", "red mug"]})
merged = clicks.merge(items, on="item_id").to_dict("records")
alone = clicks[:1].merge(items[:1], on="item_id").to_dict("records")
signed = clicks.astype("int64").merge(items, on="item_id").to_dict("records")
both = pd.concat([clicks, items])["item_id"]
print("clicked", clicks["item_id"].tolist(), "catalogue", items["item_id"].tolist())
print("isin:                  ", clicks["item_id"].isin(items["item_id"]).tolist())
print("merge, uint64 x int64: ", merged)
print("the first rows alone:  ", alone)
print("merge, both int64:     ", signed)
print("concat:                ", both.dtype, [int(value) for value in both])
assert merged == [{"item_id": ID + 1, "title": "oak lamp"}]
assert alone == signed == [] and not clicks["item_id"].isin(items["item_id"]).any()
assert both.dtype == np.float64 and both.nunique() == 3
PYTHON

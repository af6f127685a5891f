#!/usr/bin/env bash
# Guess: to_datetime gives one unit, so that .astype("int64") // 10**6 is seconds for every file (microseconds, as pandas 3 says;
#   or nanoseconds, as pandas 2 did).
# Happens: the texts decide. One time with nanoseconds makes the whole column nanoseconds, and the same code a thousand times larger
#   numbers; epoch seconds read with unit="s" and days of Parquet have yet other units. Nightly files of one log differ, and joined
#   as numbers, January lies 50,000 years behind February. .astype says nothing.
# Source: pandas 3.1.1, pandas.pydata.org/docs/whatsnew/v3.0.0.html (units are inferred). Write .dt.as_unit("us") before astype.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pandas as pd

print("pandas", pd.__version__)
january = pd.Series(["2024-01-01 10:00:00.5", "2024-01-01 10:00:01.25"])
february = pd.Series(["2024-02-01 10:00:00.5", "2024-02-01 10:00:01.250000001"])
found = {}
for what, times in (
    ("texts", pd.to_datetime(january)),
    ("texts, one with nanoseconds", pd.to_datetime(february)),

    ("NumPy days", pd.Series(np.array(["2024-01-01"], dtype="datetime64[D]"))),
):
    found[what] = (times.dtype, times.astype("int64").iloc[0], times.dt.as_unit("us").astype("int64").iloc[0])
    print(f"{what:28} {found[what][0]}  int64 {found[what][1]:>20}  as_unit us {found[what][2]}")
assert found["texts"][1] == 1704103200_500000
assert found["texts, one with nanoseconds"][1] == 1706781600_500000000
assert found["NumPy days"][1] == 1704067200
PYTHON

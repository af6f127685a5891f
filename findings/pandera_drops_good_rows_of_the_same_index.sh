#!/usr/bin/env bash
# Guess: DataFrameSchema(..., drop_invalid_rows=True).validate(log, lazy=True) leaves out the rows that fail a check, and no others.
# Happens: it leaves out every row whose index label is that of a failing one. Days read one by one and put together with pd.concat count from 0
#   each: here 3 bad events in a week of 700 take 21 rows with them, 18 good ones of other days, and with one bad event in each place of a
#   day nothing would be left. Logs indexed by user or list lose the whole user. No warning; the polars back end leaves out the bad ones
#   alone.
# Source: pandera 0.35.0, pandera.backends.pandas.base, drop_invalid_rows (index.isin); the page "Dropping invalid rows" does not say it.
#   reset_index(drop=True), or pd.concat(ignore_index=True), first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pandera[polars,pandas]==0.35.0" pandas==3.1.1 polars==2.1.0 numpy==2.3.5
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import pandas as pd
import pandera.pandas as pa
import pandera.polars as pp
import polars as pl

print("pandera", importlib.metadata.version("pandera"))
days = [pd.DataFrame({"day": day, "place": range(1, 101)}) for day in range(7)]
days[2].loc[[10, 40], "place"] = 0
days[5].loc[70, "place"] = -1
schema = pa.DataFrameSchema({"place": pa.Column(int, pa.Check.ge(1))}, drop_invalid_rows=True)
log = pd.concat(days)
kept = {
    "pd.concat": schema.validate(log, lazy=True),
    "ignore_index": schema.validate(pd.concat(days, ignore_index=True), lazy=True),
    "polars": pp.DataFrameSchema({"place": pp.Column(pl.Int64, pp.Check.ge(1))}, drop_invalid_rows=True).validate(pl.from_pandas(log), lazy=True),
}
print(f"{len(log)} rows, {(log.place < 1).sum()} of them bad; kept: " + ", ".join(f"{name} {len(rows)}" for name, rows in kept.items()))
assert len(kept["ignore_index"]) == len(kept["polars"]) == 697
assert len(kept["pd.concat"]) == 679
PYTHON

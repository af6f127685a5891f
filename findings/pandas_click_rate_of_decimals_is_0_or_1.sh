#!/usr/bin/env bash
# Guess: the mean of a column of clicks is the click rate, whatever type Parquet has for them: NUMBER(38, 0), as a warehouse unloads its whole
#   numbers, gives decimal(38, 0).
# Happens: with dtype_backend="pyarrow" the mean has the column's digits, none: of 1, 0, 0 it is 0, of 1, 1, 0 it is 1, by groupby, pivot_table
#   and transform too. Click rates are all 0 or 1, and a mean price has whole cents. std, median and rolling means of the same column are
#   right, sum / len as well, and so is everything with the other back ends, whose columns are objects. No warning.
# Source: pandas 3.1.1, ArrowDtype (its pages do not say it); pyarrow.compute.mean gives "a decimal with the same bit-width/precision/scale".
#   astype("int64[pyarrow]") first. DuckDB's avg, and so our mapping, has 0.33.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6 duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" -W error - <<'PYTHON'
from decimal import Decimal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

print("pandas", pd.__version__, "pyarrow", pa.__version__, "duckdb", duckdb.__version__)
clicked = pa.array([Decimal(n) for n in (1, 0, 0, 1, 1, 0)], pa.decimal128(38, 0))
price = pa.array([Decimal(text) for text in ("0.01", "0.02", "0.02") * 2], pa.decimal128(10, 2))
pq.write_table(pa.table({"query": ["shoe"] * 3 + ["sock"] * 3, "clicked": clicked, "price": price}), "log.parquet")


def means(**options) -> dict[str, list[float]]:
    log = pd.read_parquet("log.parquet", **options)
    by_query = log.groupby("query")
    found = {
        "mean": [log.clicked.mean()],
        "groupby": by_query.clicked.mean().tolist(),
        "agg": by_query.agg(rate=("clicked", "mean")).rate.tolist(),
        "pivot_table": log.pivot_table(index="query", values="clicked", aggfunc="mean").clicked.tolist(),
        "transform": by_query.clicked.transform("mean").tolist()[::3],
        "sum / len": [log.clicked.sum() / len(log)],
        "rolling": log.clicked.rolling(3).mean().tolist()[2::3],
        "price": by_query.price.mean().tolist(),
    }
    return {name: [round(float(value), 3) for value in values] for name, values in found.items()}


right = means()
arrow = means(dtype_backend="pyarrow")
for name in right:
    print(f"{name:12} pyarrow {arrow[name]}, objects {right[name]}")
for name in ("groupby", "agg", "pivot_table", "transform"):
    assert right[name] == [0.333, 0.667]
    assert arrow[name] == [0, 1]
assert (right["mean"], arrow["mean"]) == ([0.5], [1])
assert right["sum / len"] == arrow["sum / len"] == [0.5]
assert right["rolling"] == arrow["rolling"] == [0.333, 0.667]
assert (right["price"], arrow["price"]) == ([0.017] * 2, [0.02] * 2)
assert means(dtype_backend="numpy_nullable") == right
numbers = pd.read_parquet("log.parquet", dtype_backend="pyarrow").clicked.astype("int64[pyarrow]")
assert numbers.mean() == 0.5
rates = duckdb.sql("SELECT round(avg(clicked), 3) FROM 'log.parquet' GROUP BY query ORDER BY query").fetchall()
print("DuckDB:", rates)
assert rates == [(0.333,), (0.667,)]
PYTHON

#!/usr/bin/env bash
# Guess: WHERE isnan(score) finds the NaN of a Parquet file, as it does of a table; NaN is the largest number in DuckDB, so score > 5 too.
# Happens: neither finds it where pyarrow wrote the file (pandas writes by it): the footer's largest value leaves NaN out, as the
#   format has it, and DuckDB skips the row group by it, for isnan() as well. SELECT max(score) is 2.0, where ORDER BY and arg_max meet
#   the NaN. A check of a log of scores says that none is NaN. Files that DuckDB wrote have no such value and are read right.
# Source: duckdb 2.0.1 (its page on NaN: "greater than any other number"); pyarrow 26.0.1; parquet.thrift: NaN is not written to min or
#   max, and readers have to take it that there may be one. count(*) FILTER (isnan(score)) counts it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import math

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

print("duckdb", duckdb.__version__, "pyarrow", pa.__version__)
pq.write_table(pa.table({"item_id": ["a", "b", "c"], "score": [1.0, 2.0, math.nan]}), "pyarrow.parquet")
duckdb.sql("COPY (FROM 'pyarrow.parquet') TO 'duckdb.parquet'")
duckdb.sql("CREATE TABLE memory AS FROM 'pyarrow.parquet'")


def items(rows: str, where: str) -> list[str]:
    return [row[0] for row in duckdb.sql(f"SELECT item_id FROM {rows} WHERE {where}").fetchall()]


found = {}
for rows in ("'pyarrow.parquet'", "'duckdb.parquet'", "memory"):
    largest = duckdb.sql(f"SELECT max(score) FROM {rows}").fetchall()[0][0]
    counted, by_order = duckdb.sql(
        f"SELECT count(*) FILTER (isnan(score)), arg_max(item_id, score) FROM {rows}"
    ).fetchall()[0]
    found[rows] = [items(rows, "isnan(score)"), items(rows, "score > 5"), largest]
    print(f"{rows:18} isnan: {found[rows][0]}  above 5: {found[rows][1]}  max: {largest}  counted: {counted}  arg_max: {by_order}")
    assert counted == 1 and by_order == "c"
assert found["'pyarrow.parquet'"] == [[], [], 2.0]
for rows in ("'duckdb.parquet'", "memory"):
    assert found[rows][:2] == [["c"], ["c"]] and math.isnan(found[rows][2])
PYTHON

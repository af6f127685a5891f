#!/usr/bin/env bash
# Guess: a column of the file is read from the file. Folders named key=value add columns where the file has none of that name (Hive
#   leaves them out of its files); where both have it, it is refused, or the file's is read, as pyarrow and pandas do for one file.
# Happens: the folder's name stands in place of the column, without a word, of one file as of many, Parquet, CSV and JSON alike. In
#   backup/shop=7/ every row's shop is the number 7, whatever its file says. It depends on how the path is written: read from
#   within the folder, the same file has its own column.
# Source: duckdb 2.0.1, duckdb.org/docs/current/data/partitioning/hive_partitioning ("detected automatically"). hive_partitioning = false.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os

import duckdb

print("duckdb", duckdb.__version__)
os.mkdir("shop=7")
for kind in ("parquet", "csv", "json"):
    duckdb.execute(f"COPY (SELECT unnest(['berlin', 'paris']) AS shop) TO 'shop=7/log.{kind}'")
    found = duckdb.sql(f"FROM 'shop=7/log.{kind}'").fetchall()
    own = duckdb.sql(f"FROM read_{kind}('shop=7/log.{kind}', hive_partitioning = false)").fetchall()
    print(f"{kind:8} as written: {own}, read: {found}")
    assert found == [(7,), (7,)] and own == [("berlin",), ("paris",)]
os.chdir("shop=7")
print("from within the folder:", duckdb.sql("FROM 'log.parquet'").fetchall())
assert duckdb.sql("FROM 'log.parquet'").fetchall() == [("berlin",), ("paris",)]
PYTHON

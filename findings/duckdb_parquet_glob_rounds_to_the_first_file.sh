#!/usr/bin/env bash
# Guess: a column that is BIGINT in one file of a glob and DOUBLE in another becomes DOUBLE, or the read is refused
#   (pandas writes DOUBLE in the months where a value is missing).
# Happens: the first file's type wins and the others are cast to it: 7.5 becomes 8, without a word. From CSV, the same glob
#   gives 7.5; from Parquet only with union_by_name = true.
# Source: duckdb.org/docs/current/data/multiple_files/combining_schemas (says: by position and name, of the first file).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
duckdb.execute("COPY (SELECT 1 AS id, 7::BIGINT AS price) TO 'log_1.parquet'")
duckdb.execute("COPY (SELECT 2 AS id, 7.5::DOUBLE AS price) TO 'log_2.parquet'")
duckdb.execute("COPY (SELECT 1 AS id, 7 AS price) TO 'log_1.csv'")
duckdb.execute("COPY (SELECT 2 AS id, 7.5 AS price) TO 'log_2.csv'")
parquet = duckdb.sql("SELECT price FROM read_parquet('log_*.parquet') ORDER BY id").fetchall()
union = duckdb.sql("SELECT price FROM read_parquet('log_*.parquet', union_by_name = true) ORDER BY id").fetchall()
csv = duckdb.sql("SELECT price FROM read_csv('log_*.csv') ORDER BY id").fetchall()
print("Parquet:               ", parquet)
print("Parquet, union_by_name:", union)
print("CSV:                   ", csv)
assert parquet == [(7,), (8,)], parquet
assert union == [(7.0,), (7.5,)], union
assert csv == [(7.0,), (7.5,)], csv
PYTHON

#!/usr/bin/env bash
# Guess: file_row_number and file_index of read_parquet are DuckDB's, and a file that has a column of that name is refused, as with file_row_number = true.
# Happens: without the option the file's column is read in its place, whatever its case and without a word; in several files read by name it is NULL for those that lack it.
# Source: duckdb.org/docs/current/data/parquet/overview (virtual columns); look for the names among the file's columns first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
duckdb.sql("COPY (SELECT 10 * range AS a FROM range(3)) TO 'plain.parquet'")
duckdb.sql("COPY (SELECT 10 * range AS a, 7 AS FILE_ROW_NUMBER FROM range(3)) TO 'own.parquet'")
numbers = "SELECT list(file_row_number) FROM read_parquet"
for files in ("'plain.parquet'", "'own.parquet'", "['plain.parquet', 'own.parquet'], union_by_name = true"):
    print(f"{files:60}", duckdb.sql(f"{numbers}({files})").fetchall()[0][0])
assert duckdb.sql(f"{numbers}('own.parquet')").fetchall() == [([7, 7, 7],)]
try:
    duckdb.sql(f"{numbers}('own.parquet', file_row_number = true)").fetchall()
except duckdb.BinderException as error:
    print("with the option:", str(error).split("\n")[0])
else:
    raise AssertionError("the option says nothing")
PYTHON

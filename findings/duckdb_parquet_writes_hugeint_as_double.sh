#!/usr/bin/env bash
# Guess: COPY of a HUGEINT column to Parquet keeps it whole (as a decimal or bytes), or says that Parquet has no such type.
# Happens: it becomes DOUBLE, without a word: ids that differ in their last digits are one id in the file, and what is read
#   back is another number. DECIMAL(38, 0) keeps the same values.
# Source: duckdb.org/docs/current/data/parquet/overview
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
ids = [2**100 + 7, 2**100 + 8]
for kind in ("HUGEINT", "DECIMAL(38, 0)"):
    duckdb.sql(f"COPY (SELECT unnest({ids}::{kind}[]) AS id) TO 'ids.parquet'")
    described = duckdb.sql("DESCRIBE FROM 'ids.parquet'").fetchall()[0][1]
    different = duckdb.sql("SELECT count(DISTINCT id) FROM 'ids.parquet'").fetchall()[0][0]
    print(f"{kind} in the table: {described} in the file, {different} different ids of 2")
    assert (described, different) == (("DOUBLE", 1) if kind == "HUGEINT" else ("DECIMAL(38,0)", 2))
PYTHON

#!/usr/bin/env bash
# Guess: count_if(x) counts, so that over no rows it is 0, as count(*) FILTER (WHERE x) is.
# Happens: NULL (it is a sum), also where x is NULL in every row: a comparison with it is neither true nor false, and None in Python.
# Source: duckdb.org/docs/current/sql/functions/aggregates; write count(*) FILTER (WHERE x).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
for rows in ("range(0) t(x)", "(VALUES (NULL::INTEGER)) t(x)", "range(3) t(x)"):
    found = duckdb.sql(f"SELECT count_if(x > 0), count(*) FILTER (WHERE x > 0) FROM {rows}").fetchall()[0]
    print(f"{rows:30} count_if {found[0]}, count(*) FILTER {found[1]}")
    assert found == ((2, 2) if rows.startswith("range(3)") else (None, 0)), found
PYTHON

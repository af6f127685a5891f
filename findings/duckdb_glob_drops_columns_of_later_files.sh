#!/usr/bin/env bash
# Guess: files of one glob with different columns are refused ("Schema mismatch between globbed files"), whichever comes first.
# Happens: only where a later file lacks a column. A column that the first file lacks is left out of all of them without a
#   word: an export that gained a column in March loses it when January is read beside it. CSV and Parquet alike.
# Source: duckdb.org/docs/current/data/multiple_files/combining_schemas.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
for kind in ("csv", "parquet"):
    duckdb.execute(f"COPY (SELECT 'a' AS id) TO 'log_1.{kind}'")
    duckdb.execute(f"COPY (SELECT 'b' AS id, 'bot' AS agent) TO 'log_2.{kind}'")
    duckdb.execute(f"COPY (SELECT 'c' AS id) TO 'log_3.{kind}'")
    forward = duckdb.sql(f"SELECT * FROM read_{kind}(['log_1.{kind}', 'log_2.{kind}'])")
    print(kind, "old file first:", forward.columns, forward.fetchall())
    assert forward.columns == ["id"], forward.columns
    try:
        print(duckdb.sql(f"SELECT * FROM read_{kind}(['log_2.{kind}', 'log_3.{kind}'])").fetchall())
    except duckdb.Error as error:
        print(kind, "new file first:", str(error).split("\n")[0])
    else:
        raise SystemExit("the other order is read too")
PYTHON

#!/usr/bin/env bash
# Guess: '2024-03-01 08:00:00 -0500' casts to TIMESTAMPTZ, as in PostgreSQL (and as Shopify, Ruby and Postgres logs write it).
# Happens: only without the space. With it, CAST says 'Unknown TimeZone' and TRY_CAST gives NULL, so that a column of such times
#   is a column of NULL. DuckDB's own strftime('%Y-%m-%d %H:%M:%S %z') writes what its cast cannot read back.
# Source: duckdb.org/docs/current/sql/data_types/timestamp; strptime with %z reads it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
duckdb.execute("SET TimeZone = 'UTC'")


def cast(text: str) -> object:
    return duckdb.sql(f"SELECT TRY_CAST('{text}' AS TIMESTAMPTZ)::VARCHAR").fetchall()[0][0]


for text in ("2024-03-01 08:00:00-0500", "2024-03-01 08:00:00 -0500", "2024-03-01 08:00:00 UTC"):
    print(f"{text:27}->", cast(text))
parsed = duckdb.sql("SELECT strptime('2024-03-01 08:00:00 -0500', '%Y-%m-%d %H:%M:%S %z')::VARCHAR").fetchall()
written = duckdb.sql("SELECT strftime(TIMESTAMPTZ '2024-03-01 13:00:00+00', '%Y-%m-%d %H:%M:%S %z')").fetchall()[0][0]
print("strptime with %z           ->", parsed[0][0])
print(f"strftime with %z: {written} ->", cast(written))
assert cast("2024-03-01 08:00:00-0500") == "2024-03-01 13:00:00+00"
assert cast("2024-03-01 08:00:00 -0500") is None
assert cast("2024-03-01 08:00:00 UTC") == "2024-03-01 08:00:00+00"
assert cast(written) is None
PYTHON

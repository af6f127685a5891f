#!/usr/bin/env bash
# Guess: '2024-03-01 09:00:00 PM' casts to TIMESTAMP as 21:00, as in PostgreSQL, or not at all (TRY_CAST gives NULL).
# Happens: 09:00. Any one word behind the time is taken for a time zone and passed over, whether there is such a zone or
#   not: 'PM', 'EST', 'Europe/Berlin', 'nonsense'. A column of twelve-hour times is half a day off, and nothing says so.
#   CAST to TIMESTAMPTZ reads zones that it knows and refuses the other words.
# Source: duckdb.org/docs/current/sql/data_types/timestamp; strptime with %p reads it.
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


def cast(text: str, kind: str) -> object:
    return duckdb.execute(f"SELECT TRY_CAST(? AS {kind})::VARCHAR", [text]).fetchall()[0][0]


for word in ("PM", "EST", "Europe/Berlin", "nonsense"):
    text = f"2024-03-01 09:00:00 {word}"
    print(f"{text:34}-> TIMESTAMP {cast(text, 'TIMESTAMP')}, TIMESTAMPTZ {cast(text, 'TIMESTAMPTZ')}")
    assert cast(text, "TIMESTAMP") == "2024-03-01 09:00:00"
assert cast("2024-03-01 09:00:00 PM", "TIMESTAMPTZ") is None
assert cast("2024-03-01 09:00:00 nonsense", "TIMESTAMPTZ") is None
assert cast("2024-03-01 09:00:00 EST", "TIMESTAMPTZ") == "2024-03-01 14:00:00+00"
assert cast("2024-03-01 09:00:00 two words", "TIMESTAMP") is None
PYTHON

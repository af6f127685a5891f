#!/usr/bin/env bash
# Guess: the sniffer reads one spelling of dates in one way: 03/04/2019 is the same day wherever it stands in a file.
# Happens: beside each other in one row, 03/04/2019 is 3 April and 03/04/2019 8:55:22 AM is 4 March; 03/04/19 is 3 April of the
#   year 19. No warning; only a day above 12 among the first 20,480 rows decides otherwise.
# Source: duckdb.org/docs/current/data/csv/auto_detection (dateformat and timestampformat are detected apart from each other).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import datetime
import pathlib

import duckdb

print("duckdb", duckdb.__version__)
pathlib.Path("log.csv").write_text("day,at,short\n03/04/2019,03/04/2019 8:55:22 AM,03/04/19\n")
(day, at, short) = duckdb.sql("SELECT * FROM read_csv('log.csv')").fetchall()[0]
print("03/04/2019            ->", day)
print("03/04/2019 8:55:22 AM ->", at)
print("03/04/19              ->", short)
assert day == datetime.date(2019, 4, 3), day
assert at == datetime.datetime(2019, 3, 4, 8, 55, 22), at
assert short == datetime.date(19, 4, 3), short
PYTHON

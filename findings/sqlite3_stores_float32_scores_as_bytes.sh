#!/usr/bin/env bash
# Guess: a score or a count of NumPy in an INSERT of Python's sqlite3 is stored as a number, or refused ("type not supported"), as torch's is.
# Happens: np.float64 is stored as a number, np.float32 and np.int64 as their bytes, a BLOB, in REAL and INTEGER columns as well. A BLOB is
#   greater than every number: score > 0.5 is true of all of them, ORDER BY score DESC puts -1.5 in front of 0.5, SUM and AVG count them
#   as 0, and WHERE item_id = 7 finds no row. A log whose scores are now a model's (float32), now a mean (float64), holds both. No
#   error, no warning.
# Source: Python 3.11, sqlite3 (numpy 2.3.5); its page names bytes alone for BLOB; binding takes whatever has a buffer. score.item(), a STRICT
#   table, or CHECK (typeof(score) = 'real').
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.3.5
"$folder/venv/bin/python" -W error - <<'PYTHON'
import platform
import sqlite3

import numpy as np

print("Python", platform.python_version(), "SQLite", sqlite3.sqlite_version, "numpy", np.__version__)
rows = [("a", np.int64(7), np.float32(0.5)), ("b", np.int64(8), np.float32(-1.5)), ("c", 9, np.float64(0.75)), ("d", 10, 0.25)]
found = {}
for name, convert in (("as they come", lambda value: value), ("item()", lambda value: getattr(value, "item", lambda: value)())):
    log = sqlite3.connect(":memory:")
    log.execute("CREATE TABLE events (query TEXT, item_id INTEGER, score REAL)")
    log.executemany("INSERT INTO events VALUES (?, ?, ?)", [(query, convert(item), convert(score)) for query, item, score in rows])
    found[name] = {
        "order": "".join(query for (query,) in log.execute("SELECT query FROM events ORDER BY score DESC")),
        "above 0.5": log.execute("SELECT count(*) FROM events WHERE score > 0.5").fetchone()[0],
        "mean": log.execute("SELECT avg(score) FROM events").fetchone()[0],
        "rows of 7": log.execute("SELECT count(*) FROM events WHERE item_id = 7").fetchone()[0],
        "types": [kind for (kind,) in log.execute("SELECT typeof(score) FROM events")],
    }
    print(f"{name}: {found[name]}")
assert found["item()"]["order"] == "cadb" and found["item()"]["above 0.5"] == 1 and found["item()"]["rows of 7"] == 1
seen = found["as they come"]
assert seen["types"] == ["blob", "blob", "real", "real"] and seen["order"] == "bacd"
assert seen["above 0.5"] == 3 and seen["rows of 7"] == 0 and seen["mean"] == 0.25
try:
    log.execute("CREATE TABLE strict (score REAL) STRICT")
    log.execute("INSERT INTO strict VALUES (?)", (np.float32(0.5),))
    raise SystemExit("taken")
except sqlite3.IntegrityError as error:
    print("a STRICT table refuses it:", error)
PYTHON

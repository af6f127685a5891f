#!/usr/bin/env bash
# Guess: read_ndjson has the fields of all lines. What a guess from the first hundred lines got wrong is refused, as a number with
#   decimals in a column of whole numbers is ("cannot parse '19.99' (f64) as Int64").
# Happens: a field that the first hundred lines lack is left out, without a word: an event log that began to write query_id or
#   position in March is read without it. pandas, pyarrow and json have it. scan_ndjson does the same.
# Source: polars 2.1.0, read_ndjson (infer_schema_length=100; of further fields its page says nothing). infer_schema_length=None.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import polars as pl

print("polars", pl.__version__)
events = [{"item_id": f"p{n}", "kind": "click"} for n in range(101)]
events[-1]["query_id"] = "q7"
found = {}
for name, rows in (("100 lines before", events), ("99 lines before", events[1:])):
    Path("log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found[name] = [pl.read_ndjson("log.jsonl").columns, pl.scan_ndjson("log.jsonl").collect().columns]
    print(f"{name}:", *found[name])
assert found["100 lines before"] == [["item_id", "kind"]] * 2
assert found["99 lines before"] == [["item_id", "kind", "query_id"]] * 2
Path("log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in events))
assert pl.read_ndjson("log.jsonl", infer_schema_length=None).columns == ["item_id", "kind", "query_id"]
PYTHON

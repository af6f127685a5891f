#!/usr/bin/env bash
# Guess: an id of twenty digits in JSON, 12345678901234567890, which fits into 64 bits, is read as uint64, or is refused as a whole
#   number that is too large for int64.
# Happens: the column becomes float64 without a word: neighbouring ids are one, and so are all ids of the block, small ones too. A block
#   without such an id is int64, so that the type is that of the first rows' luck. datasets.load_dataset("json") reads by it: two
#   products are one there. json and polars keep the numbers.
# Source: pyarrow 26.0.1, arrow.apache.org/docs/python/json.html (numbers: int64, falling back to double). Pass a schema.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 datasets==5.2.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.json

datasets.disable_progress_bars()
print("pyarrow", pa.__version__, "datasets", version("datasets"))
ids = [12345678901234567890, 12345678901234567891, 9007199254740993]
Path("clicks.jsonl").write_text("".join(f'{{"item_id": {item_id}}}\n' for item_id in ids))
table = pyarrow.json.read_json("clicks.jsonl")["item_id"]
rows = datasets.load_dataset("json", data_files="clicks.jsonl", split="train", cache_dir="cache")
schema = pyarrow.json.ParseOptions(explicit_schema=pa.schema({"item_id": pa.uint64()}))
kept = pyarrow.json.read_json("clicks.jsonl", parse_options=schema)["item_id"].to_pylist()
print("ids      ", ids)
print("pyarrow  ", table.type, [int(value) for value in table.to_pylist()])
print("datasets ", rows.features["item_id"].dtype, [int(value) for value in rows["item_id"][:]])
print("schema   ", kept)
assert [json.loads(line)["item_id"] for line in open("clicks.jsonl")] == ids == kept
assert table.type == pa.float64() and len(set(table.to_pylist())) == 2
assert rows.features["item_id"].dtype == "float64" and int(rows["item_id"][2]) == ids[2] - 1
PYTHON

#!/usr/bin/env bash
# Guess: Dataset.to_json writes a number as json.dumps does, so that it is read back, and a time so that it is read back as one.
# Happens: ten places behind the point, except below 1e-15: of propensities, or sigmoids of a long tail, 3e-12 is 0.0 and 6e-16 stays 6e-16,
#   so that the smaller one is above the larger, a third of the products is tied, and an inverse propensity is infinite. Times are numbers,
#   milliseconds without their microseconds, and load_dataset("json") reads int64. to_csv and to_parquet keep both. No warning.
# Source: datasets 5.2.0, Dataset.to_json: pandas' to_json, whose double_precision=10 and date_unit="ms" the page does not name. to_json(…,
#   double_precision=15, date_format="iso", date_unit="us") keeps 15 places behind the point, which is as many as it can: Parquet for such numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
HF_HOME="$folder" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime, timedelta

import datasets
import numpy as np

print("datasets", datasets.__version__)
assert "double_precision" not in datasets.Dataset.to_json.__doc__
assert "date_unit" not in datasets.Dataset.to_json.__doc__
logits = np.linspace(-35, 0, 300)
scores = (1 / (1 + np.exp(-logits))).tolist()
times = [datetime(2026, 3, 1, 8) + timedelta(microseconds=100 * n) for n in range(300)]
log = datasets.Dataset.from_dict({"score": scores, "time": times})
log.to_json("log.jsonl")
log.to_parquet("log.parquet")
log.to_csv("log.csv")
for n in (0, 80):
    print("written", open("log.jsonl").readlines()[n].strip(), "of", log[n])


def read(kind: str, name: str) -> datasets.Dataset:
    return datasets.load_dataset(kind, data_files=name, split="train")


json, parquet, csv = read("json", "log.jsonl"), read("parquet", "log.parquet"), read("csv", "log.csv")
zeros = sum(score == 0 for score in json["score"])
print(f"JSON: {zeros} of 300 scores are 0, {len(set(json['score']))} values, {len(set(json['time']))} times, type {json.features['time'].dtype}")
print(f"Parquet: {len(set(parquet['score']))} values, {len(set(parquet['time']))} times; CSV: {len(set(csv['score']))}, {len(set(csv['time']))}")
assert zeros > 90
assert log["score"][0] < log["score"][80]
assert json["score"][0] > json["score"][80] == 0
assert len(set(json["time"])) == 30
assert json.features["time"].dtype == "int64"
assert parquet["score"][:] == csv["score"][:] == scores
assert len(set(parquet["time"])) == len(set(csv["time"])) == 300
log.to_json("more.jsonl", double_precision=15, date_format="iso", date_unit="us")
more = read("json", "more.jsonl")
print("with 15 places and iso:", sum(score == 0 for score in more["score"]), "zeros,", len(set(more["time"])), "times")
assert sum(score == 0 for score in more["score"]) < 10
assert len(set(more["time"])) == 300
PYTHON

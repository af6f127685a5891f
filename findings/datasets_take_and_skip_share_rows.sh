#!/usr/bin/env bash
# Guess: of a data set that is streamed, valid = rows.take(100) and train = rows.skip(100) have no row in common, as the pages of
#   take and skip have it ("only the first n elements", "skips the first n elements"), however many workers read them.
# Happens: read by DataLoader workers, or on several GPUs, each takes its share of n from its own files. With four of them
#   skip(100) skips the first 25 rows of each file, and take(100) is 25 rows of each. So a training with num_workers=4 reads 75 of the
#   100 rows that validation, read in one process, is made of; a run on four GPUs likewise, if one measures. Read by as
#   many workers as training, validation is 75 other rows than in the run with none. Of one file alone nothing changes.
# Source: datasets 5.2.0, iterable_dataset.py, TakeExamplesIterable.shard_data_sources (split_number). Split by files, or by a hash of an
#   id in filter. Reshelf splits by shopper or by time, before anything is streamed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q datasets==5.2.0 pyarrow==26.0.1 numpy==2.2.6
HF_HOME="$folder/home" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import warnings

import datasets
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

warnings.simplefilter("ignore")
datasets.disable_progress_bars()
print("datasets", datasets.__version__)
files = [f"{sys.argv[1]}/{month}.parquet" for month in range(4)]
for month, path in enumerate(files):
    datasets.Dataset.from_dict({"list": list(range(month * 250, month * 250 + 250))}).to_parquet(path)


def read(rows, workers):
    return {int(row["list"]) for row in DataLoader(rows, batch_size=None, num_workers=workers)}


found = {}
for name, several in (("four files", files), ("one file", files[:1])):
    rows = datasets.load_dataset("parquet", data_files=several, split="train", streaming=True)
    valid, train = rows.take(100), rows.skip(100)
    alone = read(valid, 0)
    for workers in (0, 2, 4):
        here, trained = read(valid, workers), read(train, workers)
        found[name, workers] = (len(alone & trained), len(here - alone))
        print(f"{name}, {workers} workers: {len(alone & trained)} of 100 rows of valid are in train; "
              f"take(100) gives {len(here)} rows, {len(here - alone)} of them others than without workers")
        assert not here & trained
    for gpus in (2, 4):
        trained = {row["list"] for rank in range(gpus) for row in split_dataset_by_node(train, rank, gpus)}
        found[name, f"{gpus} GPUs"] = len(alone & trained)
        print(f"{name}, {gpus} GPUs: {len(alone & trained)} of 100 rows of valid are in train")
assert found == {
    ("four files", 0): (0, 0), ("four files", 2): (50, 50), ("four files", 4): (75, 75),
    ("four files", "2 GPUs"): 50, ("four files", "4 GPUs"): 75,
    ("one file", 0): (0, 0), ("one file", 2): (0, 0), ("one file", 4): (0, 0),
    ("one file", "2 GPUs"): 0, ("one file", "4 GPUs"): 0,
}
PYTHON

#!/usr/bin/env bash
# Guess: Dataset.from_generator(rows) runs the generator, as the loaders of files look whether a file has changed.
# Happens: once. Its rows are kept under a hash of the generator's code and gen_kwargs, and given again in every later process: a
#   nightly job that reads the same path gets the first night's log for ever, without a word.
# Source: datasets 5.2.0, Dataset.from_generator. Put what changes (size, time) into gen_kwargs, or load the file by its format.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 numpy==2.2.6
cd "$folder"
cat > nightly.py <<'PYTHON'
from importlib.metadata import version

import datasets

datasets.disable_progress_bars()


def rows(path: str):
    with open(path) as lines:
        yield from ({"click": line.strip()} for line in lines)


generated = datasets.Dataset.from_generator(rows, gen_kwargs={"path": "clicks.txt"}, cache_dir="cache")["click"][:]
loaded = datasets.load_dataset("text", data_files="clicks.txt", split="train", cache_dir="cache")["text"][:]
print("datasets", version("datasets"), "- from_generator", generated, "- load_dataset", loaded)
PYTHON
echo monday > clicks.txt
"$folder/venv/bin/python" nightly.py
echo tuesday >> clicks.txt
"$folder/venv/bin/python" nightly.py | tee found
grep -q "from_generator \['monday'\] - load_dataset \['monday', 'tuesday'\]" found

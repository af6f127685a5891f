#!/usr/bin/env bash
# Guess: Dataset.map caches by what the function does: whoever edits the code that writes the prompts gets new prompts.
# Happens: only where the edited function stands in the script itself. One that is imported is known by its name: after editing
#   prompts.py, map gives the rows of the code before the edit, from the disk, in every later process, called directly or from a
#   function of the script. So two templates are compared that are one, or a model is trained on prompts that it is not served.
# Source: datasets 5.2.0, huggingface.co/docs/datasets, "The cache" (the function is hashed by dill, which writes imported functions by
#   reference). Pass new_fingerprint, or load_from_cache_file=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 numpy==2.2.6
cd "$folder"
cat > tokenize_lists.py <<'PYTHON'
from importlib.metadata import version

import datasets
import prompts

datasets.disable_progress_bars()


def here(row: dict) -> dict:
    return {"prompt": "WORD " + row["title"]}


def calls_prompts(row: dict) -> dict:
    return prompts.prompt(row)


lists = datasets.load_dataset("csv", data_files="lists.csv", split="train", cache_dir="cache")
found = [lists.map(function)["prompt"][0] for function in (here, prompts.prompt, calls_prompts)]
print("datasets", version("datasets"), "- in the script:", found[0], "- imported:", found[1], "- called:", found[2])
PYTHON
printf 'title\nred mug\n' > lists.csv
for word in query buyer; do
    printf 'def prompt(row):\n    return {"prompt": "%s " + row["title"]}\n' "$word" > prompts.py
    sed -i "s/\"[A-Za-z]* \" + row\[\"title\"\]/\"$word \" + row[\"title\"]/" tokenize_lists.py
    echo "the code says: $word"
    "$folder/venv/bin/python" -B tokenize_lists.py | tee found
done
grep -q "in the script: buyer red mug - imported: query red mug - called: query red mug" found

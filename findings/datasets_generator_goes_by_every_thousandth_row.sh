#!/usr/bin/env bash
# Guess: a field that only some rows of Dataset.from_generator, or of map, have (a promotion, a filter) is kept and null elsewhere, as datasets
#   reads JSON lines, or refused; a text that follows whole numbers is kept or refused, as 9.5 after them is.
# Happens: rows 0, 1,000, 2,000, ... (writer_batch_size) name the fields of the rows behind them. Where none of those has the field it is left
#   out of the whole data set without a word, here of 428 rows of 3,000; where one has it a KeyError ends the run: which of the two is a
#   question of the order of the log. Where ids were whole numbers the text "0012" becomes 12, where scores were floats the text "7" 7.0.
#   No warning.
# Source: datasets 5.2.0, ArrowWriter, OptimizedTypedSequence (Dataset.from_list says that the first row names the columns, from_generator and
#   map say nothing). Give features=.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 pyarrow==26.0.1
cd "$folder"
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import datasets
from datasets import Dataset

print("datasets", datasets.__version__)
datasets.disable_progress_bars()
rows = 3000


def log(also, late_id):
    for row in range(rows):
        promoted = row % 7 == 3 and row % 1000 or row == also
        yield {"item_id": row if row < 1500 else late_id} | ({"promotion": row} if promoted else {})


found = {}
for also in (999, 1001, 1000, 2000):
    try:
        made = Dataset.from_generator(log, gen_kwargs={"also": also, "late_id": "0012"})
        found[also] = made.column_names, made[rows - 1]["item_id"]
    except datasets.exceptions.DatasetGenerationError as error:
        found[also] = repr(error.__cause__)
    print(f"a promotion in some rows, {also} among them: columns, and the text '0012' of the last row: {found[also]}")
mapped = Dataset.from_dict({"row": range(rows)}).map(lambda row: {"score": 0.5} if row["row"] < 2500 else {"score": "7", "promotion": 1})
print("of map:", mapped.column_names, repr(mapped[rows - 1]["score"]))
try:
    Dataset.from_generator(log, gen_kwargs={"also": -1, "late_id": 9.5})
    raise SystemExit("taken")
except datasets.exceptions.DatasetGenerationError as error:
    print("9.5 after whole numbers:", repr(error.__cause__))
assert found[999] == found[1001] == (["item_id"], 12) and "KeyError" in found[1000] and "KeyError" in found[2000]
assert mapped.column_names == ["row", "score"] and mapped[rows - 1]["score"] == 7.0
PYTHON

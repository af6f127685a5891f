#!/usr/bin/env bash
# Guess: class_encode_column("grade"), which train_test_split asks for before stratify_by_column, leaves whole numbers from 0 to 10 as they
#   are: their order is plain.
# Happens: they are sorted as texts, 0, 1, 10, 2, …: grade 10 becomes 2, the grades 2 to 9 become 3 to 10, and what is trained and measured by
#   that column takes the best products for poor ones. Up to ten grades (0 to 9) nothing changes, and grades from 1 begin at 0. Ratings of
#   1 to 10 and prices in steps fare alike. No warning.
# Source: datasets 5.2.0, Dataset.class_encode_column (its page does not say in which order). cast_column("grade", ClassLabel(num_classes=11)).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import datasets

warnings.simplefilter("error")
datasets.disable_progress_bars()
print("datasets", datasets.__version__)
found = {}
for grades in (range(10), range(11), range(1, 6)):
    rows = datasets.Dataset.from_dict({"grade": list(grades) * 2})
    found[grades] = rows.class_encode_column("grade")["grade"][: len(grades)]
    print(f"grades {list(grades)} become {found[grades]}")
split = datasets.Dataset.from_dict({"grade": list(range(11)) * 10})
split = split.class_encode_column("grade").train_test_split(test_size=0.2, seed=0, stratify_by_column="grade")["test"]
print("features of the split:", split.features)
cast = datasets.Dataset.from_dict({"grade": list(range(11))}).cast_column("grade", datasets.ClassLabel(num_classes=11))["grade"][:]
assert list(found[range(10)]) == list(range(10)) == list(cast)[:10] and cast[10] == 10
assert list(found[range(11)]) == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 2]
assert list(found[range(1, 6)]) == [0, 1, 2, 3, 4]
PYTHON

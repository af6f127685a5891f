#!/usr/bin/env bash
# Guess: documents with equal scores keep the order in which the run lists them, as they do in a test with three.
# Happens: up to fifteen do. Of a longer list numba's quicksort makes an order of its own: of 100 equal scores the first document
#   is measured at rank 73, the last at 87. A first stage without scores (all 1.0), or a model that gives few different ones, is
#   measured in that order.
# Source: ranx 0.3.21, data_structures/run.py (sort by np.argsort under numba). Give ranks as scores: -1, -2, -3, …
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ranx==0.3.21 numba==0.63.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

from ranx import Qrels, Run, evaluate

warnings.simplefilter("ignore")
print("ranx", version("ranx"))


def rank(size: int, place: int, distinct: bool = False) -> int:
    documents = [f"d{n:03}" for n in range(size)]
    run = Run({"q": {document: -float(n) if distinct else 1.0 for n, document in enumerate(documents)}})
    return round(1 / evaluate(Qrels({"q": {documents[place]: 1}}), run, "mrr"))


for size in (10, 100):
    print(f"{size} equal scores: ranks of the first and the last", rank(size, 0), rank(size, size - 1))
assert [rank(10, 0), rank(10, 9)] == [1, 10]
assert rank(100, 0) > 10
assert [rank(100, 0, distinct=True), rank(100, 99, distinct=True)] == [1, 100]
PYTHON

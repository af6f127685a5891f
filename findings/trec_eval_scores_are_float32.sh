#!/usr/bin/env bash
# Guess: a run's scores are doubles, as its files and Python's floats are; of two documents the one with the larger score comes first.
# Happens: they are compared as float32. Above 16,777,216 neighbouring whole numbers are equal, and so are times in seconds within
#   two minutes, or 1.0 and 1.00000001; equal ones are ordered by document id, the largest first. A run that was written with
#   scores to carry an order (1e8 - rank), or that ranks by time, is measured in the order of its ids.
# Source: pytrec_eval-terrier 0.5.11 (trec_eval 9: `float sim` in its results); write scores of ranks, not times.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pytrec_eval-terrier==0.5.11 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pytrec_eval

print("pytrec_eval-terrier", version("pytrec_eval-terrier"))
evaluator = pytrec_eval.RelevanceEvaluator({"q": {"a": 1}}, {"recip_rank"})
found = {}
for what, scores in (
    ("ranks", {"a": 2.0, "b": 1.0}),
    ("1e8 - rank", {"a": 1e8 - 1, "b": 1e8 - 2}),
    ("seconds", {"a": 1772359230.0, "b": 1772359170.0}),
    ("close", {"a": 1.00000001, "b": 1.0}),
):
    found[what] = evaluator.evaluate({"q": scores})["q"]["recip_rank"]
    print(f"{what:10} {scores}: reciprocal rank of a, the first, is {found[what]}")
assert found == {"ranks": 1.0, "1e8 - rank": 0.5, "seconds": 0.5, "close": 0.5}
PYTHON

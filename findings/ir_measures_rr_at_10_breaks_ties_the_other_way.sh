#!/usr/bin/env bash
# Guess: of a list with four results, RR (the reciprocal rank) and RR@10 are one number, as AP and AP@10 are: ties are broken in
#   one way for a library whose purpose is one way of measuring.
# Happens: 0.33 and 0.5. The measures come from different programs: RR from trec_eval, which orders equal scores by document id, the
#   largest first, and as float32; RR@10 from MS MARCO's script, smallest first, as doubles. A cut-off, which should change nothing,
#   turns the order of all ties around: the same two systems may change places.
# Source: ir_measures 0.4.3 (ir-measur.es says which provider is asked first, and nothing of ties). Write ranks as scores.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ir_measures==0.4.3 pytrec_eval-terrier==0.5.11 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import ir_measures
from ir_measures import AP, RR, nDCG

print("ir_measures", version("ir_measures"))
wanted = [ir_measures.Qrel("q", "b", 1)]
found = {}
for what, scores in (
    ("ranks", (-1.0, -2.0, -3.0, -4.0)),
    ("equal", (1.0, 1.0, 1.0, 1.0)),
    ("1e8 - rank", (1e8 - 1, 1e8 - 2, 1e8 - 3, 1e8 - 4)),
):
    run = [ir_measures.ScoredDoc("q", document, score) for document, score in zip("abcd", scores, strict=True)]
    values = ir_measures.calc_aggregate([RR, RR @ 10, AP, AP @ 10, nDCG, nDCG @ 10], wanted, run)
    found[what] = {str(measure): round(value, 3) for measure, value in values.items()}
    print(f"{what:11}", dict(sorted(found[what].items())))
assert found["ranks"]["RR"] == found["ranks"]["RR@10"] == 0.5
for what in ("equal", "1e8 - rank"):
    assert found[what]["RR"] == 0.333 and found[what]["RR@10"] == 0.5, found[what]
    assert found[what]["AP"] == found[what]["AP@10"] and found[what]["nDCG"] == found[what]["nDCG@10"]
PYTHON

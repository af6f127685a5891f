#!/usr/bin/env bash
# Guess: RetrievalMAP(top_k=3) divides by all relevant documents (trec_eval, ranx) or by as many of them as three places can hold
#   (XGBoost, CatBoost). With one of four found, at rank 1, that is 0.25 or 0.33.
# Happens: 1.0. It divides by the relevant documents found within top_k, so that what is missed costs nothing: one hit at rank 1 is
#   perfect whatever stands behind the cut, and a second hit at rank 2 cannot raise it. A worse list can measure higher: found at
#   ranks 1 and 3 it is 0.83, found at rank 1 alone 1.0.
# Source: torchmetrics 1.9.0, functional/retrieval/average_precision.py, whose page says of top_k "consider only the top k elements".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q torchmetrics==1.9.0 pytrec_eval-terrier==0.5.11 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pytrec_eval
import torch
from torchmetrics.retrieval import RetrievalMAP

print("torchmetrics", version("torchmetrics"), "pytrec_eval-terrier", version("pytrec_eval-terrier"))
scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
found = {}
for relevant in ([1, 0, 0, 1, 1, 1], [1, 1, 0, 0, 1, 1], [1, 0, 1, 0, 1, 1]):
    ap = RetrievalMAP(top_k=3)(torch.tensor(scores), torch.tensor(relevant), indexes=torch.zeros(6, dtype=torch.long))
    judged = {f"d{n}": label for n, label in enumerate(relevant)}
    run = {f"d{n}": score for n, score in enumerate(scores)}
    trec = pytrec_eval.RelevanceEvaluator({"q": judged}, {"map_cut.3"}).evaluate({"q": run})["q"]["map_cut_3"]
    found[str(relevant)] = (round(ap.item(), 3), round(trec, 3))
    print(relevant, "cut at 3: torchmetrics %.3f, trec_eval %.3f" % found[str(relevant)])
assert list(found.values()) == [(1.0, 0.25), (1.0, 0.5), (0.833, 0.417)], found
PYTHON

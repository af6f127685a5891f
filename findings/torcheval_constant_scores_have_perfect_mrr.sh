#!/usr/bin/env bash
# Guess: a model that gives every candidate one score has the mean reciprocal rank of a shuffled list, 0.05 for 100 candidates, or the
#   worst; and one that gives NaN has the worst, or is refused.
# Happens: 1.0, and hit rate@1 likewise: rank is the number of scores that are greater, so that all that are equal are first. A collapsed
#   model, a sigmoid of bfloat16 that has reached 1, and a model of NaN (nothing is greater than it) are measured as perfect, and a
#   search keeps their checkpoint.
# Source: torcheval 0.0.7, metrics.functional.reciprocal_rank, hit_rate, and the classes ReciprocalRank, HitRate (their pages say nothing of
#   equal scores). Add a little noise, or rank otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torcheval==0.0.7 numpy==2.3.5
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from torcheval.metrics import HitRate, ReciprocalRank

print("torcheval", importlib.metadata.version("torcheval"))
chance = torch.Generator().manual_seed(0)
wanted = torch.randint(100, (200,), generator=chance)
logits = torch.randn(200, 100, generator=chance)
models = {
    "at random": logits,
    "one score for all": torch.zeros(200, 100),
    "bfloat16 sigmoid": torch.sigmoid((logits + 9).bfloat16()),
    "NaN": torch.full((200, 100), float("nan")),
}
found = {}
for name, scores in models.items():
    found[name] = [round(float(metric.update(scores, wanted).compute().mean()), 2) for metric in (ReciprocalRank(), HitRate(k=1))]
    print(f"{name:18} MRR {found[name][0]}, hit rate@1 {found[name][1]}")
assert found["at random"][0] < 0.1 and found["bfloat16 sigmoid"][0] > 0.5
assert found["one score for all"] == found["NaN"] == [1.0, 1.0]
PYTHON

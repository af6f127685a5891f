#!/usr/bin/env bash
# Guess: AUROC is a matter of order, so BinaryAUROC fed list by list gives what it gives for all of them at once; and where scores are
#   logits (it takes those), they are all squashed, or none is.
# Happens: every call of update decides for itself: a batch with a score below 0 or above 1 goes through a sigmoid, one whose scores
#   happen to lie between stays as it is. 0.95 of the one is then above 1.5 of the other, which has become 0.82. Here each clicked product
#   is above each other one, and the AUROC is 0.75; of 200 lists of four it is 0.90 instead of 0.91. It depends on the batch size.
#   BinaryAveragePrecision, PrecisionRecallCurve and CalibrationError alike.
# Source: torchmetrics 1.9.0, utilities/compute.py, normalize_logits_if_needed; the page says of preds outside [0, 1] that they are
#   taken for logits, "per element". Pass probabilities, or all scores in one call.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torchmetrics
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

print("torchmetrics", torchmetrics.__version__)
clear = [(torch.tensor([0.95, 0.99]), torch.tensor([0, 1])), (torch.tensor([-2.0, 1.5]), torch.tensor([0, 1]))]
random = torch.Generator().manual_seed(0)
clicks = torch.tensor([1, 0, 0, 0])
many = [(0.5 * torch.randn(4, generator=random) + clicks, clicks) for _ in range(200)]


def measured(metric, lists):
    for scores, labels in lists:
        metric.update(scores, labels)
    return round(float(metric.compute()), 4)


found = {}
for name, lists in (("two lists of two", clear), ("200 lists of four", many)):
    at_once = [(torch.cat([scores for scores, _ in lists]), torch.cat([labels for _, labels in lists]))]
    for metric in (BinaryAUROC, BinaryAveragePrecision):
        found[name, metric.__name__] = measured(metric(), at_once), measured(metric(), lists)
        print(f"{name:18} {metric.__name__:23} at once %.4f   list by list %.4f" % found[name, metric.__name__])
assert found["two lists of two", "BinaryAUROC"] == (1.0, 0.75)
assert all(at_once > by_list + 0.005 for at_once, by_list in found.values())
PYTHON

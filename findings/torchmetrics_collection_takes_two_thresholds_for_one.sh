#!/usr/bin/env bash
# Guess: of MetricCollection({"wide": BinaryPrecision(0.5), "strict": BinaryPrecision(0.9)}) each figure is that of its own threshold, whatever
#   the batches hold.
# Happens: metrics whose counts are equal after the first batch share them from then on, for good, reset() included. The first batch of an
#   untrained model, or a small one, has no score between the two thresholds; then the first by name speaks for both in every later
#   epoch: here "wide" has the precision of "strict", 0.95 for 0.76, and its recall, 0.22 for 0.75; of a precision beside a recall
#   "strict" has the recall of "wide". A run that begins with another batch has other figures. No warning.
# Source: torchmetrics 1.9.0, MetricCollection._merge_compute_groups; its page says that groups are found by themselves, not that one batch
#   decides it. torchmetrics#2596 has it for a metric of one's own. compute_groups=False, or forward() in place of update().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 numpy==2.3.5
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
import torchmetrics
from torchmetrics.classification import BinaryPrecision, BinaryRecall

print("torchmetrics", torchmetrics.__version__)
torch.manual_seed(0)
untrained, batches = 0.4 * torch.rand(16), [torch.rand(16) for _ in range(40)]
clicked = [(torch.rand(16) < scores).int() for scores in [untrained, *batches]]


def measure(kinds, first, groups):
    metrics = torchmetrics.MetricCollection({name: kind(at) for name, (kind, at) in kinds.items()}, compute_groups=groups)
    if first:
        metrics.update(untrained, clicked[0])
        metrics.compute()
        metrics.reset()
    for scores, labels in zip(batches, clicked[1:]):
        metrics.update(scores, labels)
    return {name: round(float(figure), 3) for name, figure in metrics.compute().items()}


for kinds in (
    {"precision wide": (BinaryPrecision, 0.5), "precision strict": (BinaryPrecision, 0.9)},
    {"recall wide": (BinaryRecall, 0.5), "recall strict": (BinaryRecall, 0.9)},
    {"precision wide": (BinaryPrecision, 0.5), "recall strict": (BinaryRecall, 0.9)},
):
    alone = measure(kinds, False, False)
    after, fresh = measure(kinds, True, True), measure(kinds, False, True)
    print(f"each alone {alone}, in a collection {fresh}")
    print(f"   in one that began with an epoch of the untrained model {after}")
    first, second = sorted(kinds)
    assert fresh == alone == measure(kinds, True, False)
    assert after[first] == alone[first] and abs(after[second] - alone[second]) > 0.1
PYTHON

#!/usr/bin/env bash
# Guess: LambdaLoss of a batch of lists is the mean of the lists' losses, as ListNetLoss and ListMLELoss are: a list's gradient does not hang
#   on what stands beside it, and two lists in a batch are two steps of accumulation.
# Happens: it is a mean over pairs of all lists together. A list of 3 candidates with one click (2 pairs) beside one of 60 with 20 clicks (800
#   pairs) keeps a 400th of its gradient: short lists, and searches with one click, are hardly trained on in batches with long ones,
#   and with batches of one list they are trained on in full. RankNetLoss, which is made of it, likewise.
# Source: sentence-transformers 6.2.0, cross_encoder.losses.LambdaLoss (its forward says what is returned: "mean LambdaLoss over the batch").
#   Lists of about one length in a batch, or per_device_train_batch_size=1 and accumulation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.19.0 sentence-transformers==6.2.0 numpy==2.3.5
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import torch
from sentence_transformers.cross_encoder import losses

print("sentence-transformers", importlib.metadata.version("sentence-transformers"))


class Scores(torch.nn.Module):
    """A stand-in for a CrossEncoder: the score of each text is a number of its own."""

    device, num_labels = torch.device("cpu"), 1

    def __init__(self) -> None:
        super().__init__()
        self.of_text = torch.nn.Parameter(torch.linspace(-1, 1, 63))

    def preprocess(self, pairs, **named):
        return {"which": torch.tensor([int(text) for _, text in pairs])}

    def forward(self, which):
        return {"scores": self.of_text[which["which"]]}


short, long = [str(n) for n in range(3)], [str(n) for n in range(3, 63)]
clicks = {"short": torch.tensor([1.0, 0, 0]), "long": torch.tensor([1.0, 0, 0] * 20)}
found = {}
for name in ("LambdaLoss", "RankNetLoss", "ListNetLoss"):
    gradient = {}
    for beside in (False, True):
        model = Scores()
        inputs = [["a", "b"], [short, long]] if beside else [["a"], [short]]
        labels = [clicks["short"], clicks["long"]] if beside else [clicks["short"]]
        getattr(losses, name)(model)(inputs, labels).backward()
        gradient[beside] = model.of_text.grad[:3].norm()
    found[name] = float(gradient[True] / gradient[False])
    print(f"{name:12} gradient of the short list beside the long one: {found[name]:.4f} of what it is alone")
assert abs(found["ListNetLoss"] - 0.5) < 1e-4
assert found["LambdaLoss"] < 0.01 and found["RankNetLoss"] < 0.01
PYTHON

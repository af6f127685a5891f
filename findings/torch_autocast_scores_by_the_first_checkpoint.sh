#!/usr/bin/env bash
# Guess: under torch.no_grad() and torch.autocast, load_state_dict(weights) and then model(x) scores x by these weights: three checkpoints
#   that are measured in a loop within one context get three figures.
# Happens: all three get the figure of the first. Autocast keeps the bfloat16 copy of each weight until its outermost context ends, known by
#   the tensor and not by what is in it; load_state_dict, an average of weights swapped in, or an adapter copied over the last one write into the
#   same tensor and are not seen. So "the checkpoints do not differ" is read off a comparison of one with itself. In float32 there is no
#   copy and all is right, with torch.inference_mode() inside too; under no_grad it is not. A server that opens autocast once per process
#   goes on with the weights it began with. No warning.
# Source: torch 2.13.0, autocast_mode.cpp, cached_cast; its page ("cache_enabled") does not say when a copy is dropped. The context
#   around each forward pass alone, cache_enabled=False, or torch.clear_autocast_cache() after loading.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
from contextlib import nullcontext

import torch

print("torch", torch.__version__)
torch.manual_seed(0)
model, product = torch.nn.Linear(8, 1), torch.randn(1, 8)
first = {name: weights.clone() for name, weights in model.state_dict().items()}
checkpoints = [{name: weights * times for name, weights in first.items()} for times in (1, 2, 3)]


def scores(outside, inside=nullcontext) -> list[float]:
    found = []
    with torch.no_grad(), outside():
        for weights in checkpoints:
            model.load_state_dict(weights)
            with inside():
                found.append(round(float(model(product)), 3))
    return found


def autocast(**more):
    return lambda: torch.autocast("cpu", dtype=torch.bfloat16, **more)


found = {
    "float32": scores(nullcontext),
    "autocast around each forward pass": scores(nullcontext, autocast()),
    "autocast around the loop": scores(autocast()),
    "the same, cache_enabled=False": scores(autocast(cache_enabled=False)),
    "the same, inference_mode inside": scores(autocast(), torch.inference_mode),
}
for name, values in found.items():
    print(f"{name:34} scores by the three checkpoints {values}")
kept = found.pop("autocast around the loop")
assert kept[0] == kept[1] == kept[2] == found["autocast around each forward pass"][0]
right = found.pop("float32")
assert all(abs(score - one) < 0.02 * abs(one) for values in found.values() for score, one in zip(values, right, strict=True))
PYTHON

#!/usr/bin/env bash
# Guess: add_weighted_adapter([a, b], [0.5, 0.5], combination_type="linear") gives the mean of the two updates, so half of an
#   adapter and half of the same adapter is that adapter.
# Happens: it is twice that. A and B are summed apart, each by the root of its weight, so that every A meets every B:
#   (√w₁B₁ + √w₂B₂)(√w₁A₁ + √w₂A₂). For two different adapters the products across are as large as the updates themselves.
#   "cat" gives the weighted sum, exactly; "svd" the nearest of the same rank.
# Source: peft 0.21.2, tuners/lora/model.py, _generalized_task_arithmetic_weighted_adapter.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import peft
import torch
from peft import LoraConfig, get_peft_model

print("peft", peft.__version__)
torch.manual_seed(0)
config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), config, adapter_name="a")
model.add_adapter("b", config)


def update(name: str) -> torch.Tensor:
    return model.base_model.model[0].get_delta_weight(name).detach()


found = {}
for kind in ("linear", "cat"):
    for other in ("a", "b"):
        name = f"{kind}_{other}"
        model.add_weighted_adapter(["a", other], [0.5, 0.5], name, combination_type=kind)
        mean = (update("a") + update(other)) / 2
        found[name] = float((update(name) - mean).norm() / mean.norm())
        print(f"{kind:6} half a, half {other}: off the mean of the updates by {found[name]:.0%} of it")
assert abs(found["linear_a"] - 1) < 1e-4
assert found["linear_b"] > 0.3
assert max(found["cat_a"], found["cat_b"]) < 1e-5
PYTHON

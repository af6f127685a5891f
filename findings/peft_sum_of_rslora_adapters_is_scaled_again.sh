#!/usr/bin/env bash
# Guess: add_weighted_adapter(…, combination_type="cat") is the weighted sum of the updates, for adapters with use_rslora as for
#   others: the scale of each is multiplied into its weights, and the new adapter's is 1.
# Happens: the new adapter gets lora_alpha = r, so that alpha / r is 1, but keeps use_rslora, so that its scale is alpha / √r = √r: the
#   mean of two adapters of rank 16 is 5.7 times as large as their means, and one adapter with weight 1 is four times itself. "svd"
#   and "linear" are off by their own √r. No warning; scores are there, far too sure.
# Source: peft 0.21.2, tuners/lora/model.py, add_weighted_adapter (`replace(…, r=new_rank, lora_alpha=new_rank, …)`). Divide the
#   weights by √r of the new adapter, or set peft_config and `scaling` yourself.
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
found = {}
for rooted in (False, True):
    torch.manual_seed(0)
    config = LoraConfig(r=16, lora_alpha=8, use_rslora=rooted, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(64, 64)), config, adapter_name="a")
    model.add_adapter("b", config)

    def update(name):
        return model.base_model.model[0].get_delta_weight(name).detach()

    for names, weights in ((["a"], [1.0]), (["a", "b"], [0.5, 0.5])):
        model.add_weighted_adapter(names, weights, "+".join(names) + "!", combination_type="cat")
        wanted = sum(weight * update(name) for name, weight in zip(names, weights, strict=True))
        got = update("+".join(names) + "!")
        ratio = float((got * wanted).sum() / wanted.square().sum())
        assert torch.allclose(got, ratio * wanted, atol=1e-3)
        found[rooted, len(names)] = ratio
        print(f"use_rslora={rooted}: sum of {names} by {weights} is {ratio:.3f} times what it should be")
assert all(abs(found[False, n] - 1) < 1e-4 for n in (1, 2))
assert abs(found[True, 1] - 16**0.5) < 1e-3
assert abs(found[True, 2] - 32**0.5) < 1e-3
PYTHON

#!/usr/bin/env bash
# Guess: with model.disable_adapter() a model gives the base's scores, whatever the adapter's start was: the reference of DPO or KL without a
#   second copy of the base, and the baseline of an evaluation; model.unload() gives the base back.
# Happens: init_lora_weights="pissa" and "olora" take the start out of the base's own weights. Switched off, and unloaded, the model is what was
#   left: a network that was never trained, here 0.8 to 1.1 times the scores' spread away from the base. The reference of DPO is that
#   one (with an adapter TRL takes disable_adapter), and "better than the base" compares with it. A second adapter beside it warns, this
#   does not. True and "orthogonal" give the base exactly.
# Source: peft 0.21.2, LoraLayer.pissa_init, olora_init; the page of disable_adapter says "to run inference on the base model". Load the base
#   again as reference, or start with True.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.19.0 peft==0.21.2 numpy==2.3.5
cd "$folder"
HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import copy
import warnings

import peft
import torch
from peft import LoraConfig, get_peft_model

print("peft", peft.__version__)
torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 1))
prompts = torch.randn(200, 64)
scores = base(prompts).detach()


def off(found):
    return round(float((found.detach() - scores).abs().max() / scores.std()), 4)


found = {}
for start in (True, "orthogonal", "pissa", "olora"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = get_peft_model(copy.deepcopy(base), LoraConfig(r=8, target_modules=["0"], init_lora_weights=start))
        on = off(model(prompts))
        with model.disable_adapter():
            disabled = off(model(prompts))
        found[start] = on, disabled, off(model.unload()(prompts))
    print(f"{start!s:10} largest distance from the base in spreads of its scores: on {on}, disabled {disabled}, unloaded {found[start][2]}")
assert all(on < 1e-3 for on, _, _ in found.values())
for start in (True, "orthogonal"):
    assert found[start][1:] == (0.0, 0.0)
for start in ("pissa", "olora"):
    assert min(found[start][1:]) > 0.3
PYTHON

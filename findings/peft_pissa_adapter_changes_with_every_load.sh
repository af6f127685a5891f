#!/usr/bin/env bash
# Guess: an adapter that was trained with init_lora_weights="pissa_niter_16" (PiSSA, whose start is taken out of the base) and saved gives its
#   scores again wherever it is loaded over the same base.
# Happens: loading takes the start out of the base once more, by a decomposition that draws random numbers. It is another one each time, so
#   that scores differ from those that were measured, and from one process or worker to the next: with 16 iterations and rank 8 over a
#   random base of 64 by 0.1 to 0.2 of the scores' spread, with one iteration by more than all of it. "pissa" without a number is exact.
#   No warning.
# Source: peft 0.21.2, LoraLayer.pissa_init (svd_lowrank), PeftModel.from_pretrained. Save with
#   path_initial_model_for_weight_conversion, as the page of PiSSA recommends for sharing: that is an ordinary adapter.
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
from peft import LoraConfig, PeftModel, get_peft_model

print("peft", peft.__version__)
torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 1))
prompts = torch.randn(200, 64)
found = {}
for start in ("pissa", "pissa_niter_1", "pissa_niter_16", True):
    trained = get_peft_model(copy.deepcopy(base), LoraConfig(r=8, target_modules=["0"], init_lora_weights=start))
    step = torch.optim.SGD([some for some in trained.parameters() if some.requires_grad], lr=0.1)
    trained(prompts).square().mean().backward()
    step.step()
    scores = trained(prompts).detach()
    trained.save_pretrained("adapter")
    off = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = PeftModel.from_pretrained(copy.deepcopy(base), "adapter")
        off.append(round(float((loaded(prompts).detach() - scores).abs().max() / scores.std()), 4))
    found[start] = off
    print(f"{start!s:15} largest difference in spreads of the score: loaded {off[0]}, once more {off[1]}")
assert max(found[True] + found["pissa"]) < 1e-3
assert min(found["pissa_niter_1"]) > 0.01 and found["pissa_niter_1"][0] != found["pissa_niter_1"][1]
PYTHON

#!/usr/bin/env bash
# Guess: load_adapter(folder, "default") with a name that is there puts the folder's adapter in its place, or is refused, as
#   add_adapter refuses it ("already exists").
# Happens: the weights are the folder's, while lora_alpha and use_rslora stay those of the adapter before. A server that loads each
#   night's adapter under one name computes an eighth of the update where alpha went from 2 to 16; no warning, and the reply says
#   that all keys matched.
# Source: peft 0.21.2, PeftModel.load_adapter (its config is read only `if adapter_name not in self.peft_config`; the page says that
#   the name "should be unique"). Call delete_adapter first. Reshelf refuses a name that is there (transformers_engine.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2 numpy==2.2.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import copy
import sys
import warnings

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model

print("peft", peft.__version__)
torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(8, 8))
nights = {"monday": (2, False), "tuesday": (16, False), "wednesday": (16, True)}
for night, (alpha, rooted) in nights.items():
    config = LoraConfig(
        r=4, lora_alpha=alpha, use_rslora=rooted, target_modules=["0"], init_lora_weights=False
    )
    get_peft_model(copy.deepcopy(base), config).save_pretrained(f"{sys.argv[1]}/{night}")


def update(model):
    return model.base_model.model[0].get_delta_weight("default").detach()


found = {}
for night in ("tuesday", "wednesday"):
    fresh = PeftModel.from_pretrained(copy.deepcopy(base), f"{sys.argv[1]}/{night}")
    server = PeftModel.from_pretrained(copy.deepcopy(base), f"{sys.argv[1]}/monday")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reply = server.load_adapter(f"{sys.argv[1]}/{night}", "default")
    found[night] = float(update(server).norm() / update(fresh).norm())
    same = torch.allclose(update(server) / found[night], update(fresh), atol=1e-5)
    print(f"{night} after monday: {reply}; {found[night]} of its update")
    assert same and not reply.missing_keys and not reply.unexpected_keys
    server.delete_adapter("default")
    server.load_adapter(f"{sys.argv[1]}/{night}", "default")
    assert torch.equal(update(server), update(fresh))
assert found == {"tuesday": 2 / 16, "wednesday": (2 / 4) / (16 / 4**0.5)}
PYTHON

#!/usr/bin/env bash
# Guess: two documents in one row, whose position_ids start again at 0 (what DataCollatorWithFlattening hands over), are kept apart, or
#   they are not; whichever it is, the same call of the same model gives the same scores in training and afterwards.
# Happens: they are kept apart with use_cache=False, which Trainer sets, and not with True, which a model has when it is loaded: there
#   the second document reads the first, at positions that both have, and its scores are others. An attention_mask of ones joins them
#   as well. And any jump keeps apart: who drops tokens from the middle of a history but leaves the positions as they were
#   (0 1 2 6 7 8) has cut the prompt in two without a cache, and not with one.
# Source: transformers 5.24.0, masking_utils.py, find_packed_sequence_indices, asked only where there is neither a mask nor a cache; the
#   page of the collator says to make sure that the attention can handle it. Pass use_cache=False wherever rows are packed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import DataCollatorWithFlattening, Qwen3Config, Qwen3ForCausalLM

print("transformers", transformers.__version__)
torch.manual_seed(0)
size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
model = Qwen3ForCausalLM(Qwen3Config(vocab_size=64, **size, num_key_value_heads=2, head_dim=16)).eval()
for weights in model.parameters():
    if weights.dim() > 1:
        torch.nn.init.normal_(weights, std=0.3)
first, second = [5, 9, 33, 2, 17, 40], [7, 21, 8, 50, 11]
row = DataCollatorWithFlattening(return_tensors="pt")([{"input_ids": first}, {"input_ids": second}])
print("positions", row["position_ids"][0].tolist())


@torch.no_grad()
def last(ids, **more):
    return model(torch.tensor(ids)[None], **more).logits[0, -1]


alone, both, places = last(second), first + second, row["position_ids"]
jump = torch.tensor([[*range(6), *range(20, 25)]])
found = {}
for name, more in {
    "use_cache=False": {"position_ids": places, "use_cache": False},
    "as loaded": {"position_ids": places},
    "use_cache=False, mask of ones": {"position_ids": places, "use_cache": False, "attention_mask": torch.ones(1, 11)},
    "a jump, use_cache=False": {"position_ids": jump, "use_cache": False},
    "a jump, as loaded": {"position_ids": jump},
}.items():
    found[name] = float((last(both, **more) - alone).abs().max())
    print(f"{name:30} logits of the second document differ from its own, alone, by up to {found[name]:.4f}")
assert max(found["use_cache=False"], found["a jump, use_cache=False"]) < 1e-3
assert min(found["as loaded"], found["use_cache=False, mask of ones"], found["a jump, as loaded"]) > 1
PYTHON

#!/usr/bin/env bash
# Guess: an attention_mask of four dimensions (batch, 1, tokens, tokens) says who may see whom besides what the model's layers do: in a base
#   with sliding windows (Gemma 3, 15 of the 18 layers of the 270M) the window still holds, as it does with a mask of two dimensions.
# Happens: the mask stands in place of everything, in every layer: the layers with a window see the whole prompt. A mask that says
#   nothing but "causal", which is what the model does by itself, changes its scores as soon as a prompt is longer than the window, and
#   not before: what was tried on short prompts is equal to the last bit. Masks for packed rows, shared prefixes or candidates that do not
#   see each other are the case. No warning. A dict of one mask per kind of layer is taken as well, and needs the window written in.
# Source: transformers 5.24.0, masking_utils.py, _preprocess_mask_arguments ("if the mask is already 4D, simply return as-is"). Reshelf hands
#   over no such mask (modeling/attention.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

print("transformers", transformers.__version__)
torch.manual_seed(0)
size = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
kinds = ["sliding_attention", "full_attention"]
model = Gemma3ForCausalLM(Gemma3TextConfig(**size, head_dim=16, sliding_window=16, layer_types=kinds, pad_token_id=0)).eval()
for weights in model.parameters():
    if weights.dim() > 1:
        torch.nn.init.normal_(weights, std=0.3)


@torch.no_grad()
def last(ids, mask):
    return model(ids, attention_mask=mask).logits[0, -1]


found = {}
for length in (16, 40):
    ids = torch.randint(1, 64, (1, length))
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    window = causal & ~torch.ones(length, length, dtype=torch.bool).tril(-16)
    masks = {
        "of two dimensions": torch.ones(1, length),
        "causal, of four": causal,
        "two, by the kind of layer": {"full_attention": causal, "sliding_attention": window},
    }
    for name, mask in masks.items():
        found[length, name] = float((last(ids, mask) - last(ids, None)).abs().max())
        print(f"{length} tokens, window 16, mask {name:26} logits differ from those without a mask by {found[length, name]:.4f}")
changed = found.pop((40, "causal, of four"))
assert changed > 1 and max(found.values()) < 1e-4
PYTHON

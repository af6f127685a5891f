#!/usr/bin/env bash
# Guess: a causal model …ForSequenceClassification reads its score at the last token whose attention_mask is 1.
# Happens: at the last token that is not config.pad_token_id; the mask is not looked at. So where the padding token is also the end
#   token (the usual choice for a base without one), a prompt that ends with it is scored one token earlier, alone and in a
#   batch, and an engine that pools the last token gives another score. Batches padded with any other token, masked as they
#   should be, are scored at their padding.
# Source: transformers 5.19.0 and 5.24.0, modeling_layers.py, GenericForSequenceClassification.forward.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import Qwen3Config, Qwen3ForSequenceClassification

print("transformers", transformers.__version__)
torch.manual_seed(0)
sizes = dict(vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
END, OTHER = 2, 1
config = Qwen3Config(**sizes, num_key_value_heads=2, head_dim=16, num_labels=1, pad_token_id=END)
model = Qwen3ForSequenceClassification(config).eval()


@torch.no_grad()
def score(tokens: list[int], mask: list[int] | None = None) -> float:
    mask = mask or [1] * len(tokens)
    return model(torch.tensor([tokens]), attention_mask=torch.tensor([mask])).logits.item()


plain, ended = score([4, 5, 6]), score([4, 5, 6, END])
padded = score([4, 5, 6, OTHER, OTHER], [1, 1, 1, 0, 0])
model.config.pad_token_id = OTHER
at_end, ignored = score([4, 5, 6, END]), score([4, 5, 6, OTHER, OTHER], [1, 1, 1, 0, 0])
print(f"[4 5 6]                               {plain:+.5f}")
print(f"[4 5 6 end], padding token is end     {ended:+.5f}, is another {at_end:+.5f}")
print(f"[4 5 6 x x], mask 1 1 1 0 0, padding token is not x {padded:+.5f}, is x {ignored:+.5f}")
assert abs(ended - plain) < 1e-5 < abs(at_end - plain)
assert abs(ignored - plain) < 1e-5 < abs(padded - plain)
PYTHON

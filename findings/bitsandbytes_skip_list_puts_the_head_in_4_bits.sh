#!/usr/bin/env bash
# Guess: BitsAndBytesConfig(llm_int8_skip_modules=["q_proj"]) keeps q_proj dense beside what is kept by default, the head (lm_head).
# Happens: the list stands in place of the default: the head is put into 4 bits as well, without a word. A reranker reads its
#   scores (the logits of yes and no) from it, and its error is that of those two rows. Of …ForSequenceClassification the list
#   ["lm_head"] puts the new head, `score`, into 4 bits.
# Source: transformers 5.24.0, quantizers/base.py, get_modules_to_not_convert. Name the head in your list.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 bitsandbytes==0.50.2 accelerate==1.15.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
print("transformers", version("transformers"), "bitsandbytes", version("bitsandbytes"))
sizes = dict(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2)
config = Qwen3Config(**sizes, num_key_value_heads=2, head_dim=32, tie_word_embeddings=False)
Qwen3ForCausalLM(config).save_pretrained("base")
found = {}
for skip in (None, ["q_proj"], ["q_proj", "lm_head"]):
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, llm_int8_skip_modules=skip)
    model = AutoModelForCausalLM.from_pretrained("base", quantization_config=bits)
    found[str(skip)] = (type(model.lm_head).__name__, type(model.model.layers[0].self_attn.q_proj).__name__)
    print(f"{skip!s:23} lm_head {found[str(skip)][0]}, q_proj {found[str(skip)][1]}")
assert list(found.values()) == [("Linear", "Linear4bit"), ("Linear4bit", "Linear"), ("Linear", "Linear")]
PYTHON

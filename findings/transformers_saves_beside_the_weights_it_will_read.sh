#!/usr/bin/env bash
# Guess: what save_pretrained wrote last into a folder is what from_pretrained reads from it; whatever it finds there of an earlier
#   save it replaces, as it removes the parts (model-00001-of-00010) of one.
# Happens: a model.safetensors of an earlier save stays beside the parts and their index, and is read before them. A base was saved
#   into a folder in one file, the finetuned model later with max_shard_size="2GB": the folder gives the base, without a word,
#   and the finetuned weights lie in parts that nothing reads. A tokenizer without a chat template likewise leaves the template
#   of the one before, and gets it when it is loaded.
# Source: transformers 5.24.0 and 5.19.0, modeling_utils.py (save_pretrained removes only names with -of-; the single file is looked for
#   first). Save into a new folder. Reshelf refuses a base whose folder holds weights both ways (modeling/base_checks.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 numpy==2.2.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import sys

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

transformers.logging.disable_progress_bar()
print("transformers", transformers.__version__)
size = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
base, finetuned = (Qwen3ForCausalLM(Qwen3Config(**size, num_key_value_heads=2, head_dim=8)) for _ in range(2))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


found = {}
for first, then in ((None, "4KB"), ("4KB", None), ("4KB", "8KB"), (None, None)):
    folder = f"{sys.argv[1]}/{first}-{then}"
    base.save_pretrained(folder, **({"max_shard_size": first} if first else {}))
    finetuned.save_pretrained(folder, **({"max_shard_size": then} if then else {}))
    read = AutoModelForCausalLM.from_pretrained(folder)
    found[first, then] = "base" if same(read, base) else "finetuned" if same(read, finetuned) else "neither"
    names = [name for name in sorted(os.listdir(folder)) if name.startswith("model")]
    print(f"base in {first or 'one file'}, then finetuned in {then or 'one file'}: {found[first, then]}; {names[:1] + names[-2:]}")


def tokenizer(template):
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), unk_token="a")
    made.chat_template = template
    return made


folder = f"{sys.argv[1]}/tokenizer"
tokenizer("{{ messages[0].content }} of the base").save_pretrained(folder)
tokenizer(None).save_pretrained(folder)
template = AutoTokenizer.from_pretrained(folder).chat_template
print("a tokenizer without a template, saved over one with:", template)
assert found == {(None, "4KB"): "base", ("4KB", None): "finetuned", ("4KB", "8KB"): "finetuned", (None, None): "finetuned"}
assert template == "{{ messages[0].content }} of the base"
PYTHON

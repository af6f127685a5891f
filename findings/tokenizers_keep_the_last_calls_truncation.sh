#!/usr/bin/env bash
# Guess: truncation and padding are arguments of a call: save_pretrained writes tokenizer.json as it was loaded.
# Happens: the last call's are written: after tokenizer(…, truncation=True, max_length=3) the file cuts at 3 tokens wherever it is
#   read without transformers (tokenizers, text-embeddings-inference, candle, ONNX). There a reranker sees the beginning of each
#   prompt, gives scores all the same, and no warning comes. A call without truncation in between sets it back, so it depends on
#   what was evaluated last.
# Source: transformers 5.24.0, tokenization_utils_tokenizers.py, set_truncation_and_padding. Reshelf sets both back before it saves
#   (modeling/checkpoint.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
from importlib.metadata import version

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

print("transformers", version("transformers"), "tokenizers", version("tokenizers"))
prompt = "red mug of oak"
words = {word: n for n, word in enumerate(["<unk>", "<pad>", *prompt.split()])}
made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>")
found = []
for call in ({}, {"truncation": True, "max_length": 3, "padding": True}, {}):
    tokenizer([prompt, "mug"], **call)
    tokenizer.save_pretrained("saved")
    found.append(len(Tokenizer.from_file("saved/tokenizer.json").encode(prompt).ids))
    print(f"saved after a call with {call}: tokenizers reads {found[-1]} tokens of 4")
assert found == [4, 3, 4], found
PYTHON

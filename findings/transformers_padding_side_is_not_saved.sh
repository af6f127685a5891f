#!/usr/bin/env bash
# Guess: tokenizer.padding_side = "left", then save_pretrained: the folder's tokenizer pads on the left, as model_max_length and an added
#   pad token, set in the same way, are kept.
# Happens: it pads on the right again, and truncation_side is lost too, unless the tokenizer's own file had the field before (then the new
#   value is kept) or it was passed to from_pretrained. A reranker that reads logits[:, -1], trained and measured with left padding, is
#   loaded from its own folder and reads the padding of every prompt but the longest: scores of each batch that say next to nothing,
#   without an error. One prompt at a time it is right.
# Source: transformers 5.24.0, tokenization_utils_base.py, save_pretrained (fields of init_kwargs alone); pass padding_side="left" to
#   from_pretrained; in huggingface/transformers#32580 a maintainer says why.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.24.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

print("transformers", transformers.__version__)
words = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "shoes": 2}, "[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
vocabulary = {"<|endoftext|>": 0, **{letter: n for n, letter in enumerate("redshoĠ", 1)}}
kinds = {
    "a tokenizer.json": PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[UNK]"),
    "Qwen's class": Qwen2Tokenizer(vocab=vocabulary, merges=[]),
}
found = {}
for name, new in kinds.items():
    new.save_pretrained("base")
    for how, more in {"set": {}, "passed": {"padding_side": "left", "truncation_side": "left"}}.items():
        tokenizer = AutoTokenizer.from_pretrained("base", **more)
        tokenizer.padding_side = tokenizer.truncation_side = "left"
        tokenizer.model_max_length = 77
        tokenizer.save_pretrained("saved")
        again = AutoTokenizer.from_pretrained("saved")
        found[name, how] = again.padding_side, again.truncation_side, again.model_max_length
        print(f"{name:16} left, {how:6}: padding_side, truncation_side, model_max_length as loaded: {found[name, how]}")
        batch = again(["red", "red shoes"], padding=True).input_ids
        assert (batch[0][-1] == again.pad_token_id) == (how == "set")
for (_, how), sides in found.items():
    assert sides == (("right", "right", 77) if how == "set" else ("left", "left", 77))
PYTHON

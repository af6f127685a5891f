#!/usr/bin/env bash
# Guess: a tokenizer for products tells 1½ inch from 11⁄2 inch, 5¼ from 51⁄4 and 10² from 102; what is folded are wide letters and the like.
# Happens: trained as it comes, SentencePiece gives the two of each pair the same ids. Its normaliser (nmt_nfkc) writes ½ as 1⁄2 and ² as 2
#   without a space before, so that what stands there joins the number to its left: a belt of 1½ inches is one of eleven halves, and cut
#   into pieces it begins like 11. XLM-RoBERTa, T5 and what is made of them (most multilingual cross-encoders) have this normaliser in
#   their files. Line ends become spaces too: a prompt in lines is one line. A model that scores such sizes cannot learn the difference,
#   however it is trained, and offsets point at the text before.
# Source: sentencepiece 0.2.3, doc/normalization.md names NFKC. normalization_rule_name="identity" keeps them
#   apart; with a base that has it, write sizes as 1.5 before tokenising.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q sentencepiece==0.2.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import random

import sentencepiece

print("sentencepiece", sentencepiece.__version__)
random.seed(0)
words = ["belt", "screen", "inch", "cable", "m", "m²", "1", "2", "1½", "5¼", "11⁄2", "51⁄4", "5.5", "10²", "102"]
titles = [" ".join(random.choice(words) for _ in range(8)) for _ in range(2000)]
found = {}
for rule in ("nmt_nfkc", "identity"):
    more = {} if rule == "nmt_nfkc" else {"normalization_rule_name": rule}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(titles), model_prefix=rule, vocab_size=36, hard_vocab_limit=False, minloglevel=2, **more
    )
    tokenizer = sentencepiece.SentencePieceProcessor(f"{rule}.model")
    for one, other in (("1½ inch", "11⁄2 inch"), ("5¼ inch", "51⁄4 inch"), ("10² m", "102 m"), ("belt\n1 m", "belt 1 m")):
        found[rule, one] = tokenizer.encode(one) == tokenizer.encode(other)
        print(f"{rule:8} {one!r:11} {tokenizer.encode(one, out_type=str)} {'is' if found[rule, one] else 'is not'} {other!r}")
assert all(same == (rule == "nmt_nfkc") for (rule, _), same in found.items())
PYTHON

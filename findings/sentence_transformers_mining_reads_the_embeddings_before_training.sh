#!/usr/bin/env bash
# Guess: mine_hard_negatives(cache_folder=…) keeps the embeddings of a model for that model: after training, or with another model, it
#   computes its own, as it does for another prompt.
# Happens: they are kept under model_card_data.base_model and the texts. That name is the same before and after training, and it is empty for
#   every model that is not found on the hub: a model trained on the first round's negatives mines its second round with the embeddings
#   from before, and another one, of another folder, with those of the first. Nothing is said but "[Cache] Loaded".
# Source: sentence-transformers 6.2.0, util.mine_hard_negatives ("hashes are computed based on the model name, the query/corpus prompts, and
#   the queries/corpus"). A folder for each round.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.19.0 sentence-transformers==6.2.0 datasets==5.2.0 numpy==2.3.5
cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import datasets
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer, models, pre_tokenizers

print("sentence-transformers", importlib.metadata.version("sentence-transformers"))
words = ["coat", "hat", "shoe", "bag"]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="coat"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
first = torch.eye(4)
first[1] = torch.tensor([0.9, 0.1, 0.0, 0.0])  # a hat is next to a coat; after training a bag is
second = torch.eye(4)
second[3] = torch.tensor([0.9, 0.0, 0.0, 0.1])
pairs = datasets.Dataset.from_dict({"query": ["coat"] + words[1:], "product": ["coat coat", "hat hat", "shoe shoe", "bag bag"]})


def model(weights):
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights.clone().numpy())], device="cpu")


def hardest(some, **named):
    mined = mine_hard_negatives(pairs, some, num_negatives=1, verbose=False, **named)
    return dict(zip(mined["query"], mined["negative"]))["coat"]


shop = model(first)
found = [hardest(shop, cache_folder="kept")]
with torch.no_grad():
    next(shop.parameters()).copy_(second)
found += [hardest(shop, cache_folder="kept"), hardest(shop), hardest(model(second), cache_folder="kept")]
print("hardest negative of coat: before training", found[0], "| after it, kept folder", found[1], "| after it, no folder", found[2],
      "| another model, kept folder", found[3])
print("name the embeddings are kept under:", repr(shop.model_card_data.base_model or ""))
assert found == ["hat hat", "hat hat", "bag bag", "hat hat"]
PYTHON

#!/usr/bin/env bash
# Guess: mine_hard_negatives(cross_encoder=teacher, output_scores=True) scores the candidates with the teacher ("a CrossEncoder model to use for
#   rescoring the candidates"), chooses the hardest by it and gives its scores, for MarginMSE.
# Happens: only where a bound is given as well (absolute_margin, relative_margin, max_score or min_score). Without one the teacher is never
#   called: negatives and scores are those of the embedding model, cosines, under the same name and shape, and a student is distilled from
#   the retriever. No warning; absolute_margin=-1e9 keeps every candidate and asks the teacher.
# Source: sentence-transformers 6.2.0, util.mine_hard_negatives ("similarity scores computed by the model or cross_encoder").
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.19.0 sentence-transformers==6.2.0 datasets==5.2.0 numpy==2.3.5
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import datasets
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import mine_hard_negatives
from tokenizers import Tokenizer, models, pre_tokenizers

print("sentence-transformers", importlib.metadata.version("sentence-transformers"))
words = ["coat", "hat", "shoe", "red", "blue", "green", "wool"]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="coat"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
weights = torch.randn(len(words), 8, generator=torch.Generator().manual_seed(0)).numpy()
retriever = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")


class Teacher:
    """A stand-in for a CrossEncoder: the score is 100 + the length of the text."""

    calls = 0

    def predict(self, pairs, **named):
        self.calls += 1
        return torch.tensor([100.0 + len(text) for _, text in pairs])


pairs = datasets.Dataset.from_dict({
    "query": ["coat", "hat", "shoe"],
    "product": ["red wool coat", "green wool hat", "blue red green shoe"],
})
found = {}
for name, bounds in {"without a bound": {}, "absolute_margin": {"absolute_margin": -1e9}}.items():
    teacher = Teacher()
    mined = mine_hard_negatives(
        pairs, retriever, cross_encoder=teacher, num_negatives=1, output_format="n-tuple", output_scores=True, verbose=False, **bounds
    )
    found[name] = teacher.calls, max(max(row) for row in mined["scores"])
    print(f"{name:16} calls of the teacher {found[name][0]}, scores {[[round(float(one), 2) for one in row] for row in mined['scores']]}")
assert found["without a bound"][0] == 0 and found["without a bound"][1] <= 1.001
assert found["absolute_margin"][0] > 0 and found["absolute_margin"][1] > 100
PYTHON

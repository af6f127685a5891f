"""sentence-transformers: CrossEncoder.predict over a causal LM (LogitScore on yes and no).

python -m benchmarks.contestants.score_crossencoder WORLD
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists


def main(folder: Path) -> None:
    turns = Turns()
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = CrossEncoder(str(folder / BASE), model_kwargs={"dtype": dtype}, max_length=16384)
    lists = read_lists(folder)
    turns.ready(tokens=len(model.tokenizer(lists[0].prefix, lists[0].texts[0])["input_ids"]))
    while turns.turn():
        entry = lists[turns.task]
        pairs = [(entry.prefix, text) for text in entry.texts]
        scores = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        turns.done(scores=scores.tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""FlagEmbedding: FlagLLMReranker.compute_score (logit of "Yes").

python -m benchmarks.contestants.score_flagembedding WORLD

Its instruction is the list's answer suffix; its two separators, which cannot be switched off, add two tokens per item.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from FlagEmbedding import FlagLLMReranker

from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists


def main(folder: Path) -> None:
    turns = Turns()
    on_gpu = torch.cuda.is_available()
    lists = read_lists(folder)
    devices = ["cuda:0" if on_gpu else "cpu"]
    model = FlagLLMReranker(str(folder / BASE), use_fp16=False, use_bf16=on_gpu, devices=devices)
    turns.ready()
    while turns.turn():
        entry = lists[turns.task]
        pairs = [(entry.prefix, item) for item in entry.items]
        scores = model.compute_score(
            pairs, query_max_length=8192, max_length=16384, prompt=entry.answer, normalize=False
        )
        turns.done(scores=[float(s) for s in scores])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The floor: forward and backward of the same distinct tokens as plain causal text, no optimizer, no trainer.

python -m benchmarks.contestants.train_bare WORLD LISTS_PER_STEP
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists
from reshelf.modeling.score import attach_head


def main(folder: Path, lists_per_step: int) -> None:
    turns = Turns()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / BASE, dtype=dtype, attn_implementation="sdpa").to(device)
    attach_head(model, 5, 6)
    model.train()
    rows = []
    for entry in read_lists(folder):
        ids = torch.tensor([*entry.prefix_ids, *itertools.chain(*entry.item_ids)], device=device)
        ends = len(entry.prefix_ids) + torch.tensor([len(item) for item in entry.item_ids]).cumsum(0) - 1
        rows.append((ids[None], ends.to(device)))
    endless = itertools.cycle(rows)
    turns.ready()
    while turns.turn():
        for _ in range(lists_per_step):
            ids, ends = next(endless)
            logits = model(input_ids=ids, logits_to_keep=ends, use_cache=False).logits[0]
            scores = logits[:, 0] - logits[:, 1]
            F.cross_entropy(scores[None], torch.zeros(1, dtype=torch.long, device=device)).backward()
        model.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        turns.done()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

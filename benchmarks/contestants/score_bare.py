"""The floor: a forward pass over a list's distinct tokens as plain causal text, with the label head at every candidate.

python -m benchmarks.contestants.score_bare WORLD
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists
from reshelf.modeling.score import attach_head


@torch.inference_mode()
def main(folder: Path) -> None:
    turns = Turns()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / BASE, dtype=dtype, attn_implementation="sdpa").to(device)
    attach_head(model.eval(), 5, 6)
    lists = read_lists(folder)
    turns.ready()
    while turns.turn():
        entry = lists[turns.task]
        ids = torch.tensor([*entry.prefix_ids, *itertools.chain(*entry.item_ids)], device=device)
        ends = len(entry.prefix_ids) + torch.tensor([len(item) for item in entry.item_ids]).cumsum(0) - 1
        model(input_ids=ids[None], logits_to_keep=ends.to(device), use_cache=False).logits.float().cpu()
        turns.done()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

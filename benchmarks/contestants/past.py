"""One build of Reshelf, today's or a past one: loads, scores and trains by what both have in common.

    PYTHONPATH=TREE python past.py BASE float32|bfloat16 FOLDER score|train

Run as a file, beside `turns.py`, so that `reshelf` is the build of PYTHONPATH. It first writes a reranker folder over
BASE in the build's own format, with the same adapter for all builds; `score` loads that as a user would, `train` takes
LoRA steps over 4 bits. A turn names the seed of its list and its shape: prefix tokens, item tokens, candidates.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import Turns  # type: ignore[import-not-found]

from reshelf import Reranker

# Where past builds have them; today's files import them from `spec` and `config`.
from reshelf.modeling.checkpoint import RerankerSpec, save_reranker  # type: ignore[attr-defined]
from reshelf.modeling.loading import LoraConfig, ModelConfig, add_lora, load_base  # type: ignore[attr-defined]
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import ListPrompt, PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels

try:
    from reshelf.prompts.builder import Truncated
except ImportError:  # as it was called until November 2026
    from reshelf.prompts.builder import Trimmed as Truncated  # type: ignore[no-redef,attr-defined]


def main(base: Path, dtype: Any, folder: Path, work: str) -> None:
    turns = Turns()
    torch.manual_seed(0)
    config = ModelConfig(str(base), quantise=True, dtype=dtype)
    model, tokenizer = load_base(config, "cpu")
    spec = RerankerSpec(config, PromptConfig(template="plain"), FeatureLevels())
    attach_head(model, *PromptBuilder(tokenizer, spec.prompt, {}).label_ids)
    model = add_lora(model, LoraConfig(dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    save_reranker(folder, model, tokenizer, spec)
    turn = scorer(folder) if work == "score" else trainer(model.train())
    turns.ready()
    while turns.turn():
        seed, *shape = turns.task
        turns.done(value=turn(make_prompt(seed, *shape)))


def make_prompt(seed: int, prefix: int, item: int, candidates: int) -> ListPrompt:
    """A list of random tokens."""
    ids = np.random.default_rng(seed).integers(100, 1900, prefix + item * candidates).astype(np.int32)
    return ListPrompt(f"l{seed}", ids[:prefix], tuple(np.split(ids[prefix:], candidates)), Truncated())


def scorer(folder: Path) -> Callable[[ListPrompt], Any]:
    engine = Reranker.from_pretrained(folder, "transformers").engine
    return lambda prompt: engine.score([prompt])[0].tolist()


def trainer(model: Any) -> Callable[[ListPrompt], Any]:
    """Steps that make a list's first candidate its best."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)

    def step(prompt: ListPrompt) -> float:
        loss = -torch.log_softmax(score(model, pack([prompt])), 0)[0]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])

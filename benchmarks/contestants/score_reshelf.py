"""Reshelf's engines on a workload's lists; the workload is first turned into a reranker folder.

python -m benchmarks.contestants.score_reshelf WORLD transformers|vllm

A turn names a list of the workload: its number.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.engines.vllm_engine import VllmEngine
from reshelf.inference.engines.vllm_settings import VllmSettings
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base, pick_device
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import RerankerSpec
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels


def main(folder: Path, engine: str) -> None:
    turns = Turns()
    tokenizer = AutoTokenizer.from_pretrained(folder / BASE)
    dtype: Any = "bfloat16" if torch.cuda.is_available() else "float32"
    config = ModelConfig(str(folder / BASE), quantise=False, dtype=dtype)
    model, _ = load_base(config)
    attach_head(model, *(tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no")))
    spec = RerankerSpec(config, PromptConfig(template="plain"), FeatureLevels())
    prompts = [entry.prompt() for entry in read_lists(folder)]
    made: Any
    if engine == "transformers":
        made = TransformersEngine(model)
    else:
        longest = max(len(p.prefix) + max(map(len, p.items)) for p in prompts)
        trained = TrainedReranker(folder, model, tokenizer, spec, pick_device())
        made = VllmEngine(trained, VllmSettings(longest=longest))
    turns.ready()
    while turns.turn():
        scores = made.score([prompts[turns.task]])[0]
        turns.done(
            scores=scores.tolist(), cached=getattr(made, "cached_tokens", 0), tokens=getattr(made, "prompt_tokens", 0)
        )
    made.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

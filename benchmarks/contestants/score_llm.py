"""vLLM as its documentation says: LLM(runner="pooling") and LLM.score with texts, its prefix cache on or off.

python -m benchmarks.contestants.score_llm WORLD cached|uncached [one_process]

With one_process its scheduler and its model share a process, as in our engine on a CPU; that is not its default.
The workload's model is first written as the sequence classifier that vLLM wants.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists
from reshelf.inference.engines.dense import write_dense
from reshelf.inference.engines.vllm_engine import stop_llm
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import RerankerSpec
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels


def main(folder: Path, cached: bool, one_process: bool) -> None:
    if one_process:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    turns = Turns()
    dtype: Any = "bfloat16" if torch.cuda.is_available() else "float32"
    tokenizer = AutoTokenizer.from_pretrained(folder / BASE)
    config = ModelConfig(str(folder / BASE), quantise=False, dtype=dtype)
    model, _ = load_base(config, "cpu")
    attach_head(model, *(tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no")))
    spec = RerankerSpec(config, PromptConfig(template="plain"), FeatureLevels())
    lists = read_lists(folder)
    with tempfile.TemporaryDirectory() as weights:
        write_dense(TrainedReranker(folder, model, tokenizer, spec, "cpu"), Path(weights), merge=True, dtype=dtype)
        from vllm import LLM, PoolingParams

        longest = max(len(e.prefix_ids) + max(map(len, e.item_ids)) for e in lists)
        llm = LLM(
            weights, runner="pooling", dtype=dtype, max_model_len=longest + 16, enable_prefix_caching=cached,
            kv_cache_memory_bytes=1 << 30,
        )  # fmt: skip
        turns.ready()
        while turns.turn():
            entry = lists[turns.task]
            outputs = llm.score(
                entry.prefix, entry.texts, pooling_params=PoolingParams(use_activation=False), use_tqdm=False
            )
            turns.done(scores=[output.outputs.score for output in outputs])
        stop_llm(llm)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "cached", "one_process" in sys.argv[3:])

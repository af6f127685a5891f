"""Scoring and training steps on a GPU, synchronised, beside what the same tokens cost a bare model.

Medians in milliseconds: a new shopper's list, the same shopper again, 1,000 candidates, 200 lists of random shapes
(p99 over p50), one prompt per candidate, and steps of LoRA over NF4 with and without checkpointing beside training
every weight. `qwen3_shape` makes a model of Qwen3-0.6B's shape with random weights and fewer words.
"""

from __future__ import annotations

import gc
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reshelf.finetune.losses.listnet import listnet
from reshelf.inference.engines.transformers_engine import Budget, TransformersEngine
from reshelf.modeling.attention import SHARED_PREFIX
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.graphs import Graphs
from reshelf.modeling.loading import add_lora, load_base, pick_device
from reshelf.modeling.merge import merged
from reshelf.modeling.packing import PackedBatch, pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.list_prompt import ListPrompt, Truncated

_RNG = np.random.default_rng(0)
_WORDS = 900
"""Token ids of prompts; the smallest base has as many."""


def qwen3_shape(folder: Path, tokenizer: Path) -> Path:
    """A base of Qwen3-0.6B's shape with random weights and the tokenizer of another base."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    words = len(AutoTokenizer.from_pretrained(tokenizer))
    config = Qwen3Config(
        vocab_size=words, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=1, pad_token_id=1, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for path in tokenizer.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder


def speed(base: Path, seconds: float) -> dict[str, Any]:
    """Every figure that fits into `seconds`; the rest is left out."""
    end = time.monotonic() + seconds
    return _scoring(base, end) | _training(base, end)


def _scoring(base: Path, end: float) -> dict[str, float]:
    found = {}
    # On a CPU bfloat16 stands beside a float32 residual stream, which the bare model's attention does not take.
    kind = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    dense = merged(add_lora(_loaded(base, True), LoraConfig()), kind)
    engine = TransformersEngine(dense, Budget(tokens=65536))
    start = time.monotonic()
    engine.capture()
    _wait()
    found["capture_s"] = time.monotonic() - start
    for count in (100, 1000):
        prompts = [_prompt(512, 42, count) for _ in range(3)]
        key = f"score_{count}x42_behind_512"
        found[f"{key}_ms"] = _ms(lambda p=prompts: [engine.score([one]) for one in p], 7, end) / 3
        batch = pack(prompts[:1]).to(dense.device)
        with torch.inference_mode():
            found[f"{key}_without_graphs_ms"] = _ms(lambda b=batch: score(dense, b), 5, end)
    dense.set_attn_implementation("sdpa")  # of a bare model; the lists' takes one row
    ids = torch.from_numpy(_RNG.integers(5, _WORDS, (1, 512 + 4200))).to(dense.device)
    with torch.inference_mode():
        plain = {"use_cache": False, "logits_to_keep": 1}
        found["bare_causal_same_tokens_ms"] = _ms(lambda: dense(input_ids=ids, **plain), 5, end)
        pairs = torch.from_numpy(_RNG.integers(5, _WORDS, (100, 512 + 42))).to(dense.device)
        for size in (10, 25, 50, 100):
            work = lambda n=size: [dense(input_ids=x, **plain) for x in pairs.split(n)]  # noqa: E731
            found[f"one_prompt_per_candidate_{size}_at_once_ms"] = _ms(work, 3, end)
    dense.set_attn_implementation(SHARED_PREFIX)
    known = _prompt(512, 42, 100)
    engine.score([known])
    found["same_shopper_again_ms"] = _ms(lambda: engine.score([known]), 9, end)
    shapes = [
        _prompt(*(int(_RNG.integers(*bounds)) for bounds in ((64, 1024), (16, 64), (20, 200)))) for _ in range(200)
    ]
    times = sorted(_ms(lambda p=one: engine.score([p]), 1, end, warm=0) for one in shapes)
    found["random_shapes_p50_ms"], found["random_shapes_p99_ms"] = times[100], times[197]
    lists = [_prompt(*(int(_RNG.integers(*b)) for b in ((64, 256), (16, 48), (20, 100)))) for _ in range(256)]
    found["batch_candidates_per_s"] = 1000 * sum(len(p.items) for p in lists) / _ms(lambda: engine.score(lists), 3, end)
    return found


STEPS = {
    "every_weight_bf16": (False, False, False),
    "lora_over_nf4": (True, True, False),
    "lora_over_bf16": (False, True, False),
    "lora_over_nf4_checkpointing": (True, True, True),
}
"""Name: 4 bits, LoRA, checkpointing."""
SHAPES = {"440x48x16": [(440, 48, 16)], "1024x64x32": [(1024, 64, 32)], "8_lists_1024x64x71": [(1024, 64, 71)] * 8}


def _training(base: Path, end: float) -> dict[str, float]:
    found = {}
    for name, kind in STEPS.items():
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step = _step(base, *kind)
        for shape, lists in SHAPES.items():
            if len(lists) > 1 and "checkpointing" not in name:  # it takes more memory than there is
                continue
            batch = pack([_prompt(*one) for one in lists])
            found[f"step_{name}_{shape}_ms"] = _ms(lambda b=batch, s=step: s(b), 5, end)
            if torch.cuda.is_available():
                found[f"step_{name}_{shape}_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        print("   ", {key: round(value, 2) for key, value in found.items() if name in key}, flush=True)
    return found


def _loaded(base: Path, quantise: bool) -> Any:
    model, _ = load_base(ModelConfig(str(base), quantise=quantise, dtype="bfloat16"))
    attach_head(model, 5, 6)
    return model


def _step(base: Path, quantise: bool, lora: bool, checkpointing: bool) -> Callable[[PackedBatch], None]:
    model = _loaded(base, quantise)
    model = add_lora(model, LoraConfig()) if lora else model
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-5, fused=torch.cuda.is_available())
    model.train()
    graphs = Graphs(model, training=True) if not checkpointing else None

    def step(batch: PackedBatch) -> None:
        scores = graphs.score(batch) if graphs else score(model, batch.to(pick_device()))
        values = scores.view(len(batch.sizes), -1)
        labels = torch.zeros(values.shape, dtype=torch.int64, device=values.device)
        labels[:, 0] = 3
        ones = torch.ones(values.shape, device=values.device)
        listnet(values, labels, ones.bool(), ones[:, 0], ones).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _prompt(prefix: int, item: int, count: int) -> ListPrompt:
    whole = _RNG.integers(5, _WORDS, prefix + item * count).astype(np.int32)
    return ListPrompt("", whole[:prefix], tuple(np.split(whole[prefix:], count)), Truncated())


def _ms(work: Callable[[], Any], runs: int, end: float, warm: int = 3) -> float:
    """Median of synchronised runs, of those that begin in time; NaN where none does."""
    for _ in range(warm):
        if time.monotonic() > end:
            break
        work()
    times = []
    for _ in range(runs):
        _wait()
        if time.monotonic() > end:
            break
        start = time.perf_counter()
        work()
        _wait()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times) if times else float("nan")


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

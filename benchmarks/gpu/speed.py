"""Scoring and training steps of the base, synchronised, beside what the same tokens cost a bare causal model.

Medians in milliseconds: a new shopper's list, the same shopper again, 1,000 candidates, 200 lists of random shapes
(p99 over p50), and steps of LoRA over NF4 with and without checkpointing beside training every weight.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reshelf.finetune.losses.listnet import listnet
from reshelf.inference.engines.transformers_engine import Budget, TransformersEngine
from reshelf.modeling.loading import LoraConfig, ModelConfig, add_lora, load_base, pick_device
from reshelf.modeling.merge import merged
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import ListPrompt, Truncated

_RNG = np.random.default_rng(0)


def speed(base: Path, seconds: float) -> dict[str, Any]:
    """Every figure that fits into `seconds`; the rest is left out."""
    end = time.monotonic() + seconds
    return _scoring(base, end) | _training(base, end)


def _scoring(base: Path, end: float) -> dict[str, float]:
    found = {}
    dense = merged(add_lora(_loaded(base, True), LoraConfig()), torch.bfloat16)
    device = dense.device
    fresh = TransformersEngine(dense, Budget(tokens=65536, prefix_bytes=0))
    for count in (100, 1000):
        prompts = [_prompt(512, 42, count) for _ in range(3)]
        found[f"score_{count}x42_behind_512_ms"] = _ms(lambda p=prompts: [fresh.score([one]) for one in p], 5, end) / 3
    ids = torch.from_numpy(_RNG.integers(5, 900, (1, 512 + 4200))).to(device)
    with torch.inference_mode():
        plain = {"use_cache": False, "logits_to_keep": 1}
        found["bare_causal_same_tokens_ms"] = _ms(lambda: dense(input_ids=ids, **plain), 5, end)
    again = TransformersEngine(dense, Budget(tokens=65536))
    known = _prompt(512, 42, 100)
    again.score([known])
    found["same_shopper_again_ms"] = _ms(lambda: again.score([known]), 9, end)
    shapes = [
        _prompt(*(int(_RNG.integers(*bounds)) for bounds in ((64, 1024), (16, 64), (20, 200)))) for _ in range(200)
    ]
    times = sorted(_ms(lambda p=one: fresh.score([p]), 1, end, warm=0) for one in shapes)
    found["random_shapes_p50_ms"], found["random_shapes_p99_ms"] = times[100], times[197]
    return found


def _training(base: Path, end: float) -> dict[str, float]:
    found = {}
    for name, quantise, lora, checkpointing in (
        ("lora_over_nf4", True, True, False), ("lora_over_nf4_checkpointing", True, True, True),
        ("lora_over_bf16", False, True, False), ("every_weight_bf16", False, False, False),
    ):  # fmt: skip
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step = _step(base, quantise, lora, checkpointing)
        for shape in ((440, 48, 16), (1024, 64, 32)):
            batch = pack([_prompt(*shape)]).to(pick_device())
            found[f"step_{name}_{'x'.join(map(str, shape))}_ms"] = _ms(lambda b=batch, s=step: s(b), 5, end)
        if torch.cuda.is_available():
            found[f"step_{name}_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def _loaded(base: Path, quantise: bool) -> Any:
    model, _ = load_base(ModelConfig(str(base), quantise=quantise, dtype="bfloat16"))
    attach_head(model, 5, 6)
    return model


def _step(base: Path, quantise: bool, lora: bool, checkpointing: bool) -> Callable[[Any], None]:
    model = _loaded(base, quantise)
    model = add_lora(model, LoraConfig(dropout=0.0)) if lora else model
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-5)
    model.train()

    def step(batch: Any) -> None:
        values = score(model, batch)[None]
        labels = torch.zeros(values.shape, dtype=torch.int64, device=values.device)
        labels[0, 0] = 3
        ones = torch.ones(values.shape, device=values.device)
        listnet(values, labels, ones.bool(), ones[:, 0], ones).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _prompt(prefix: int, item: int, count: int) -> ListPrompt:
    whole = _RNG.integers(5, 900, prefix + item * count).astype(np.int32)
    return ListPrompt("", whole[:prefix], tuple(np.split(whole[prefix:], count)), Truncated())


def _ms(work: Callable[[], Any], runs: int, end: float, warm: int = 2) -> float:
    """Median of synchronised runs; NaN where no time is left."""
    if time.monotonic() > end:
        return float("nan")
    for _ in range(warm):
        work()
    times = []
    for _ in range(runs):
        _wait()
        start = time.perf_counter()
        work()
        _wait()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

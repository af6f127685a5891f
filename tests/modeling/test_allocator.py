"""Freed memory stays: a pass over a list finds its pages where the one before left them."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

BASE = Path(__file__).parents[2] / "finetune" / "bases" / "marketplace"
PASSES = """
import resource, sys, numpy as np, torch
from reshelf.modeling import fused, loading
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.list_prompt import ListPrompt, Truncated
torch.set_num_threads(1)
if sys.argv[2] == "plain":
    fused.keep_freed_memory = lambda: None
model, _ = loading.load_base(ModelConfig(sys.argv[1], quantise=False, dtype="float32"), "cpu")
attach_head(model, 5, 6)
def faults(passes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for seed in range(passes):
        ids = np.random.default_rng(seed).integers(100, 1900, 512 + 42 * 100).astype(np.int32)
        with torch.no_grad():
            score(model, pack([ListPrompt("", ids[:512], tuple(np.split(ids[512:], 100)), Truncated())]))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(5)
print(faults(5))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_a_list_is_scored_in_the_memory_of_the_one_before() -> None:
    kept, plain = (
        int(subprocess.run([sys.executable, "-c", PASSES, str(BASE), how], check=True, stdout=subprocess.PIPE).stdout)
        for how in ("keep", "plain")
    )
    assert kept < plain / 4, f"{kept} page faults, {plain} as glibc does by itself"

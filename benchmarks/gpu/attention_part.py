"""Whether flash kernels merged by log-sum-exp give what FlexAttention gives on this GPU, and how long either takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from reshelf.modeling.attention_flex import flex
from reshelf.modeling.attention_pieces import pieces
from reshelf.modeling.packing import pack
from reshelf.prompts.builder import ListPrompt, Truncated


def attention(heads: int = 4, groups: int = 1, width: int = 256) -> dict[str, Any]:
    """Largest differences of output and gradients, bfloat16, and milliseconds forward and backward."""
    lengths = [30 + n % 20 for n in range(64)]
    tokens = [np.ones(n, dtype=np.int32) for n in (600, *lengths)]
    layout = pack([ListPrompt("", tokens[0], tuple(tokens[1:]), Truncated())]).to("cuda").layout
    total = 600 + sum(lengths)
    torch.manual_seed(0)
    parts = [torch.randn(1, h, total, width, device="cuda", dtype=torch.bfloat16) for h in (heads, groups, groups)]
    grad = torch.randn(1, total, heads, width, device="cuda", dtype=torch.bfloat16)
    found: dict[str, Any] = {}
    for window in (None, 512):
        outs = {}
        for name, work in (("flash", pieces), ("flex", flex)):
            try:
                outs[name] = _once(work, parts, grad, layout, width**-0.5, window)
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(5):
                    _once(work, parts, grad, layout, width**-0.5, window)
                torch.cuda.synchronize()
                found[f"{name}_window_{window}_ms"] = 200 * (time.perf_counter() - start)
            except Exception as error:
                found[f"{name}_window_{window}_failed"] = f"{type(error).__name__}: {error}"[:500]
        if len(outs) == 2:
            for what, a, b in zip(("out", "d_query", "d_key", "d_value"), outs["flash"], outs["flex"], strict=True):
                found[f"difference_{what}_window_{window}"] = float((a.float() - b.float()).abs().max())
    found["flash_works"] = not any(key.startswith("flash") and key.endswith("failed") for key in found)
    return found


def _once(
    work: Callable[..., torch.Tensor], parts: list[torch.Tensor], grad: torch.Tensor, layout: Any, scale: float,
    window: int | None,
) -> list[torch.Tensor]:  # fmt: skip
    leaves = [part.detach().requires_grad_() for part in parts]
    out = work(*leaves, layout, scale, None, window, None)
    out.backward(grad)
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

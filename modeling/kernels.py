"""Kernels in Triton, which comes with torch where there is a GPU.

out, lse = merge_softmaxes(own, own_lse, context, context_lse)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def merge_softmaxes(
    own: torch.Tensor, own_lse: torch.Tensor, context: torch.Tensor, context_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One softmax out of two over different keys, in float32 inside; written into `own` and `own_lse`.

    Args:
        own: [T, H, D], contiguous; `context` alike.
        own_lse: float32 [H, T], contiguous; `context_lse` alike, +∞ where there was no key.
    """
    tokens, heads, width = own.shape
    _merge[(tokens, heads)](
        own, own_lse, context, context_lse, tokens, heads, width, triton.next_power_of_2(width), num_warps=1
    )
    return own, own_lse


@triton.jit
def _merge(own, own_lse, context, context_lse, tokens, heads, width, padded: tl.constexpr):  # type: ignore[no-untyped-def]
    token, head = tl.program_id(0), tl.program_id(1)
    place = head.to(tl.int64) * tokens + token
    mine, other = tl.load(own_lse + place), tl.load(context_lse + place)
    if other != float("inf"):
        top = tl.maximum(mine, other)
        both = top + tl.log(tl.exp(mine - top) + tl.exp(other - top))
        columns = tl.arange(0, padded)
        row = (token.to(tl.int64) * heads + head) * width + columns
        inside = columns < width
        a = tl.load(own + row, mask=inside).to(tl.float32) * tl.exp(mine - both)
        b = tl.load(context + row, mask=inside).to(tl.float32) * tl.exp(other - both)
        tl.store(own + row, (a + b).to(own.dtype.element_ty), mask=inside)
        tl.store(own_lse + place, both)

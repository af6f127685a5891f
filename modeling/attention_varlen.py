"""Shared-prefix attention on a GPU: two calls of torch's flash attention, however many lists and items a row has.

    out = varlen(query, key, value, batch.layout, scale)

Both take cumulative lengths (`packing.Boundaries`). In the first, every prefix and every item is a causal sequence of
its own; in the second, a list's items are one long query over the keys of its prefix. The two are merged by their
log-sum-exps into the softmax over all keys (Dao et al., FlashAttention, 2022, §3.1), and the backward pass of either
needs only what was merged. The device reads the lengths: no mask, nothing compiled, and rows of one size are replayed
as one CUDA graph (`modeling.graphs`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from reshelf.modeling.packing import Layout

_aten = torch.ops.aten


def takes(query: torch.Tensor, window: int | None, past: Any, sinks: torch.Tensor | None) -> bool:
    """Whether there are kernels for this; FlexAttention has them for the rest (`modeling.attention_flex`)."""
    kernels = query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256
    return query.is_cuda and kernels and window is None and past is None and sinks is None


def varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float) -> torch.Tensor:
    """Attention over a packed row.

    Args:
        query: [1, H, T, D], bfloat16 or float16.
        key: [1, H_kv, T, D], H a multiple of H_kv; `value` alike.

    Returns:
        [1, T, H, D].
    """
    out: torch.Tensor = _Varlen.apply(*(x[0].transpose(0, 1) for x in (query, key, value)), layout, scale)
    return out[None]


class _Varlen(torch.autograd.Function):
    """[T, H, D] out of [T, H, D] and twice [T, H_kv, D]."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
    ) -> torch.Tensor:
        merged: tuple[torch.Tensor, torch.Tensor] | None = None
        for call in _calls(layout):
            out, lse = forward(query, key, value, call, scale)
            merged = (out, lse) if merged is None else merge(*merged, out, lse)
        assert merged is not None
        ctx.save_for_backward(query, key, value, *merged)
        ctx.layout, ctx.scale = layout, scale
        return merged[0]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        grad = grads[0].contiguous()
        own, *others = (backward(grad, query, key, value, out, lse, call, ctx.scale) for call in _calls(ctx.layout))
        for other in others:
            for total, part in zip(own, other, strict=True):
                total += part
        return *own, None, None


class VarlenCall(NamedTuple):
    """Which stretch of keys each stretch of queries sees, by cumulative lengths, int32."""

    queries: torch.Tensor
    keys: torch.Tensor
    longest_query: int
    longest_key: int
    causal: bool


def _calls(layout: Layout) -> list[VarlenCall]:
    of = layout.boundaries
    sequence, query, key = of.longest
    own = VarlenCall(of.sequences, of.sequences, sequence, sequence, causal=True)
    return [own, VarlenCall(of.queries, of.keys, query, key, causal=False)]


def merge(
    own: torch.Tensor, own_lse: torch.Tensor, context: torch.Tensor, context_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One softmax out of two over different keys: outputs [T, H, D] and log-sum-exps [H, T]."""
    if own.is_cuda:
        from reshelf.modeling.kernels import merge_softmaxes

        return merge_softmaxes(own, own_lse, context, context_lse)
    # The kernel's log-sum-exp over no keys is +∞.
    context_lse = context_lse.masked_fill(context_lse == float("inf"), float("-inf"))
    share = torch.sigmoid(context_lse - own_lse).T[..., None]
    return torch.lerp(own, context, share), torch.logaddexp(own_lse, context_lse)


def forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: VarlenCall, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [T, H, D], zeros where a query sees no key, and log-sum-exp [H, T], float32, +∞ there."""
    out, lse, *_ = _aten._flash_attention_forward(query, key, value, *call[:4], 0.0, call.causal, False, scale=scale)
    return out, lse


def backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor,
    lse: torch.Tensor, call: VarlenCall, scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of query, key and value. `out` and `lse` may be those of a softmax over more keys: what comes out is
    this call's part."""
    seed = torch.empty(0, dtype=torch.int64, device=query.device)  # of the dropout that there is none of
    return _aten._flash_attention_backward(
        grad, query, key, value, out, lse, *call[:4], 0.0, call.causal, seed, seed, scale=scale
    )

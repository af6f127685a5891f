"""Torch's flash attention kernels for CPUs with their log-sum-exps, forward and backward.

    out, lse = forward(query, key, value, causal=True, scale=scale)
    d_query, d_key, d_value = backward(d_out, query, key, value, out, lse, causal=True, scale=scale)

What torch.nn.functional gives does not return the log-sum-exps that several calls are merged by.
"""

from __future__ import annotations

import torch

_aten = torch.ops.aten


def forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, H, L, D] and log-sum-exp [B, H, L], float32 (float64 for float64).

    Args:
        query: [B, H, L, D].
        key: [B, H, S, D]; `value` alike.
        causal: a query sees keys up to its own place; L = S then.
    """
    return _aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)


def backward(
    d_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value. `out` and `lse` may be those of a softmax over more keys than `key`: what
    comes out is this call's part."""
    return _aten._scaled_dot_product_flash_attention_for_cpu_backward(
        d_out, query, key, value, out, lse, 0.0, causal, scale=scale
    )

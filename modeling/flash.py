"""Torch's flash attention kernels with their log-sum-exps, forward and backward, by the same names on CPU and GPU.

    out, lse = forward(query, key, value, causal=True, scale=scale)
    d_query, d_key, d_value = backward(d_out, query, key, value, out, lse, causal=True, scale=scale)

What torch.nn.functional gives does not return the log-sum-exps that several calls are merged by. The kernels on a GPU
take bfloat16 and float16 only (`takes`).
"""

from __future__ import annotations

import torch

_aten = torch.ops.aten


def takes(query: torch.Tensor) -> bool:
    """Whether there is a kernel for queries of this device, type and width."""
    return not query.is_cuda or (query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] % 8 == 0)


def forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, H, L, D] and log-sum-exp [B, H, L], float32 (float64 for float64).

    Args:
        query: [B, H, L, D].
        key: [B, H, S, D]; `value` alike.
        causal: a query sees keys up to its own place; L = S then.
    """
    if not query.is_cuda:
        return _aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)
    out, lse, *_ = _aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
    return out, lse


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
    if not query.is_cuda:
        return _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            d_out, query, key, value, out, lse, 0.0, causal, scale=scale
        )
    seed = torch.empty(0, dtype=torch.int64, device=query.device)  # of the dropout that there is none of
    return _aten._scaled_dot_product_flash_attention_backward(
        d_out, query, key, value, out.contiguous(), lse.contiguous(), None, None, query.shape[2], key.shape[2],
        0.0, causal, seed, seed, scale=scale,
    )  # fmt: skip

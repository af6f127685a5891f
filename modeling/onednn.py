"""float32 products of linear layers on a CPU by oneDNN, where torch takes MKL.

    use_onednn(model)               # its plain linear layers; what they compute stays the same, up to rounding
    y = linear(x, weight, bias)     # and its gradients

MKL has kernels for AVX-512 on Intel's CPUs alone. On AMD's, oneDNN, which torch brings as well, takes less than half of
its time (`benchmarks/against_past.py`); torch itself asks oneDNN for bfloat16 only.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

HERE = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")
"""Whether it is in this torch, and this is a CPU that MKL is for."""


def times(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x Wᵀ + b, [..., out], of x [..., in] and W [out, in] in any strides; without a gradient."""
    if HERE and x.dtype == torch.float32 and x.is_cpu and x.numel():
        if not weight.is_contiguous() and not weight.T.is_contiguous():
            weight = weight.contiguous()  # for other strides oneDNN has nothing but its reference, 2,000 times slower
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """As `torch.nn.functional.linear`, whatever the type and device."""
    if HERE and x.dtype == torch.float32 and x.is_cpu:
        out: torch.Tensor = _Product.apply(x, weight, bias)
        return out
    return F.linear(x, weight, bias)


class _Product(torch.autograd.Function):
    """x Wᵀ + b in float32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return times(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = d_out.flatten(0, -2)
        return (
            times(d_out, weight.T) if of_x else None,
            times(rows.T, x.flatten(0, -2).T) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class Linear(torch.nn.Linear):
    """torch's linear layer, computed by `linear` in the type of its weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x.to(self.weight.dtype), self.weight, self.bias)


def use_onednn(model: torch.nn.Module) -> None:
    """Let every plain linear layer of the model compute by `linear`; 4-bit ones are `modeling.low_rank`'s."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = Linear

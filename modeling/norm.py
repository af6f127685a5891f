"""RMSNorm of a decoder on a CPU as one function: half of the passes over the activations, forward and backward.

    fuse_norms(causal)      # what its norms compute, and its gradients, stay what they were, up to rounding

Autograd goes through transformers' seven operations one by one and keeps a float32 copy of the activations for most of
them; here the input is kept, and its root mean square. On a GPU liger-kernel does it (`modeling.liger`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from reshelf.modeling.last_layer import FAMILIES


def fuse_norms(causal: Any) -> None:
    """Let the norms of a causal LM of a known family compute this way."""
    gemma = causal.config.get_text_config().model_type.startswith("gemma")
    for module, eps in norms(causal):
        module.forward = partial(_norm, module, eps, gemma)


def norms(causal: Any) -> Iterator[tuple[Any, float]]:
    """Every RMSNorm of a causal LM of a known family, and its epsilon."""
    known = causal.config.get_text_config().model_type in FAMILIES
    for module in causal.get_decoder().modules() if known else ():
        if type(module).__name__.endswith("RMSNorm"):
            yield module, getattr(module, "eps", None) or module.variance_epsilon


def _norm(module: Any, eps: float, gemma: bool, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = _RmsNorm.apply(x, module.weight, eps, gemma)
    return out


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) · w, or in Gemma · (1 + w), in float32 inside; others than Gemma round before they weigh."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, gemma: bool) -> torch.Tensor:
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        inverse = exact.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        ctx.gemma = gemma
        normal = exact * inverse
        out = weight.dtype if x.dtype == torch.float32 else x.dtype  # of a float32 residual stream the rest is rounded
        if gemma:
            return normal.mul_(1 + weight.to(normal.dtype)).to(out)
        return weight * normal.to(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        exact = d_out.to(inverse.dtype)
        normal = x.to(inverse.dtype) * inverse
        weighted = exact * (weight.to(inverse.dtype) + float(ctx.gemma))
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = (exact * normal).flatten(0, -2).sum(0).to(weight.dtype)
        share = (weighted * normal).mean(-1, keepdim=True)
        d_x = weighted.addcmul_(normal, share, value=-1).mul_(inverse).to(x.dtype)
        return d_x, d_weight, None, None

"""A LoRA layer's training step as one function: three products and no passes over activations beside them.

    fuse_updates(model)         # after `add_lora`; a layer's outputs and gradients stay what they were, up to rounding

peft writes y = W x, s B A drop(x) and their sum as tensors of their own, each of the size of the activations, and keeps
several of them for the backward pass. Here the update is added to y where it lies, and the base's 4-bit weights are
unpacked once for the forward pass and once for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import bitsandbytes as bnb
import torch
from peft.tuners.lora import LoraLayer

from reshelf.modeling.four_bit import unpacked
from reshelf.modeling.onednn import times


def fuse_updates(model: torch.nn.Module) -> None:
    """Let linear layers with a single adapter compute this way; all else, as DoRA, is peft's."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), torch.nn.Linear):
            module = cast(Any, layer)
            module.forward = partial(_forward, module, module.forward)


def _forward(layer: Any, plain: Callable[..., torch.Tensor], x: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
    if rest or more or not _is_one_plain_update(layer):
        return plain(x, *rest, **more)
    name = layer.active_adapters[0]
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    share = getattr(layer.lora_dropout[name], "p", 0.0) if layer.training else 0.0
    out: torch.Tensor = _Updated.apply(x, a, b, layer.get_base_layer(), layer.scaling[name], share)
    return out


def _is_one_plain_update(layer: Any) -> bool:
    """Whether all there is to compute is W x + s B A x."""
    base, names = layer.get_base_layer(), layer.active_adapters
    # FSDP spreads packed weights over GPUs as plain ones.
    spread = isinstance(base, bnb.nn.Linear4bit) and not isinstance(base.weight, bnb.nn.Params4bit)
    if spread or layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return False
    return not layer.lora_bias.get(names[0]) and names[0] not in layer.lora_variant


class _Updated(torch.autograd.Function):
    """W x + s B A drop(x), [..., out] of x's type."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, base: Any, scale: float, share: float
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        kept, mask = dropout(rows, share) if share else (rows, None)
        hidden = times(kept, a.to(x.dtype))
        bias = None if base.bias is None else base.bias.to(x.dtype)
        out = times(rows, unpacked(base.weight).to(x.dtype), bias).addmm_(hidden, (b * scale).to(x.dtype).T)
        ctx.save_for_backward(a, b, rows, mask, hidden)  # `rows` other layers keep as well; `kept` is made of it again
        ctx.base, ctx.scale, ctx.share, ctx.shape = base, scale, share, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, b, rows, mask, hidden = ctx.saved_tensors
        d_out = grads[0].reshape(-1, grads[0].shape[-1])
        kind = d_out.dtype

        def dropped(x: torch.Tensor) -> torch.Tensor:
            if mask is None:
                return x
            found: torch.Tensor = torch.ops.aten.native_dropout_backward(x, mask, 1 / (1 - ctx.share))
            return found

        d_hidden = d_out @ (b * ctx.scale).to(kind)
        d_b = (d_out.T @ hidden).to(b.dtype) * ctx.scale
        d_a = (d_hidden.T @ dropped(rows)).to(a.dtype)
        if not ctx.needs_input_grad[0]:
            return None, d_a, d_b, None, None, None
        d_x = times(d_out, unpacked(ctx.base.weight).to(kind).T)
        if mask is None:
            d_x.addmm_(d_hidden, a.to(kind))
        else:
            d_x += dropped(d_hidden @ a.to(kind))
        return d_x.view(ctx.shape), d_a, d_b, None, None, None


def dropout(x: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` without that share of its numbers, the others scaled by 1 / (1 - share), and which are left, bool."""
    if x.is_cuda:
        return torch.native_dropout(x, share, True)
    # A CPU draws one number at a time, and here one is enough for four: torch's own took a quarter of a training step.
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    left = drawn[: x.numel()].view(x.shape) >= round(share * 2**16) - 2**15
    return torch.ops.aten.native_dropout_backward(x, left, 1 / (1 - share)), left

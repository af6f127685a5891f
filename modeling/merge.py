"""A finetuned reranker as plain dense weights, its adapter added to what it was trained over: for serving.

    model = merged(trained.model, torch.bfloat16)      # scores as before, up to the rounding of the type

4 bits save memory, not time: every pass unpacks them, and an adapter beside a layer costs three more matrix products.
What is merged are the 4-bit weights dequantised, not the base that they were made from: those are other weights, and
the adapter does not know them.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer


@torch.no_grad()
def merged(model: PeftModel, dtype: torch.dtype) -> Any:
    """The causal LM inside `model` with plain linear layers of `dtype`, in place; attention and head stay as they are.

    Args:
        model: a base, 4-bit or not, with one active LoRA adapter; it is used up.
        dtype: of all weights but the label head's.
    """
    causal = model.get_base_model()
    for name, layer in list(causal.named_modules()):
        if isinstance(layer, LoraLayer):
            base: Any = layer.get_base_layer()
            weight = _dense(base) + sum(layer.get_delta_weight(a).float() for a in layer.active_adapters)  # type: ignore[attr-defined]
        elif isinstance(layer, bnb.nn.Linear4bit) and not name.endswith("base_layer"):
            base, weight = layer, _dense(layer)
        else:
            continue
        plain = torch.nn.Linear(base.in_features, base.out_features, base.bias is not None, weight.device, dtype)
        plain.weight.copy_(weight)
        if base.bias is not None:
            plain.bias.copy_(base.bias)
        parent, _, own = name.rpartition(".")
        setattr(causal.get_submodule(parent), own, plain)
    for parameter in causal.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.to(dtype)
    return causal.eval()


def _dense(layer: Any) -> torch.Tensor:
    """The weights of a linear layer as they compute, float32 [out, in]."""
    weight = layer.weight
    if isinstance(weight, bnb.nn.Params4bit):
        return dequantize_4bit(weight.data, weight.quant_state).float()
    return weight.detach().float()

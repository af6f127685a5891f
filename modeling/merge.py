"""A finetuned reranker as plain dense weights, its adapter added to what it was trained over: for serving.

    trained, precision = load_for_scoring(folder, "auto")      # scores as before, up to the rounding of the type
    model = merged(load_reranker(folder).model, torch.bfloat16)

4 bits save memory, not time: every pass unpacks them, and an adapter beside a layer costs three more matrix products.
What is merged are the 4-bit weights dequantised, not the base that they were made from: those are other weights, and
the adapter does not know them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from reshelf.errors import InputError
from reshelf.modeling.checkpoint import TrainedReranker, load_reranker
from reshelf.modeling.four_bit import unpacked
from reshelf.modeling.loading import compute_in_input_dtype
from reshelf.modeling.onednn import Linear
from reshelf.modeling.precision import Computed, Precision, choose_precision
from reshelf.modeling.residual import keep_residual_exact

logger = logging.getLogger("reshelf.modeling")


def load_for_scoring(
    folder: Path | str, precision: Precision = "auto", device: str | None = None, trust_remote_code: bool = False
) -> tuple[TrainedReranker, Computed]:
    """Load a reranker folder as it is served, and say in which numbers it computes.

    Returns:
        Its `model` is a plain causal LM of one dtype, or for nf4 what `load_reranker` gives.

    Raises:
        InputError: see `load_reranker`; or nf4 was asked for and it was not trained over 4 bits.
    """
    trained = load_reranker(folder, device, trust_remote_code)
    chosen, reason = choose_precision(precision, trained.spec.model.dtype, trained.device)
    if chosen == "nf4" and not trained.spec.model.quantise:
        raise InputError(f"precision is nf4, and {folder} was not trained over 4 bits; choose float32 or bfloat16")
    logger.info("%s computes in %s: %s", folder, chosen, reason)
    if chosen == "nf4":
        compute_in_input_dtype(trained.model)
    else:
        trained.model = merged(trained.model, getattr(torch, chosen))
    return trained, chosen


@torch.no_grad()
def merged(model: PeftModel, dtype: torch.dtype) -> Any:
    """The causal LM inside `model` with plain linear layers of `dtype`, in place; attention and head stay as they are.

    Args:
        model: a base, 4-bit or not, with one active LoRA adapter; it is used up, layer by layer, so that its packed
            weights and the dense ones are never in memory together.
        dtype: of all weights but the label head's.
    """
    causal = model.get_base_model()
    for name, layer in list(causal.named_modules()):
        if isinstance(layer, LoraLayer):
            base: Any = layer.get_base_layer()
            updates = (layer.get_delta_weight(a).float() for a in layer.active_adapters)  # type: ignore[attr-defined]
            weight = unpacked(base.weight).float() + sum(updates)
        elif isinstance(layer, bnb.nn.Linear4bit) and not name.endswith("base_layer"):
            base, weight = layer, unpacked(layer.weight).float()
        else:
            continue
        plain = Linear(base.in_features, base.out_features, base.bias is not None, weight.device, dtype)
        plain.weight.copy_(weight)
        if base.bias is not None:
            plain.bias.copy_(base.bias)
        parent, _, own = name.rpartition(".")
        setattr(causal.get_submodule(parent), own, plain)
    del causal.peft_config  # or peft and transformers would take it for a model with adapters
    for parameter in causal.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.to(dtype)
    if dtype == torch.bfloat16 and causal.device.type == "cpu":
        keep_residual_exact(causal)
    return causal.eval()

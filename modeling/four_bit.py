"""Weights that bitsandbytes packed in 4 bits, as numbers."""

from __future__ import annotations

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import dequantize_4bit


def unpacked(weight: torch.Tensor) -> torch.Tensor:
    """A weight as it computes, [out, in]: 4 bits in the type they were packed from, any other as it is."""
    if isinstance(weight, bnb.nn.Params4bit):
        return dequantize_4bit(weight.data, weight.quant_state)
    return weight

"""Weights that bitsandbytes packed in 4 bits, as numbers; and bitsandbytes itself, `bnb`, for who needs it."""

from __future__ import annotations

import torch

_compile = torch.compile
try:
    # It asks for two operations to be compiled that no CPU or GPU of ours uses, and so loads torch's compiler: 2 s.
    torch.compile = lambda function=None, **_: function or (lambda found: found)  # type: ignore[assignment]
    import bitsandbytes as bnb
    from bitsandbytes.functional import dequantize_4bit
finally:
    torch.compile = _compile

__all__ = ["bnb", "unpacked"]


def unpacked(weight: torch.Tensor) -> torch.Tensor:
    """A weight as it computes, [out, in]: 4 bits in the type they were packed from, any other as it is."""
    if isinstance(weight, bnb.nn.Params4bit):
        return dequantize_4bit(weight.data, weight.quant_state)
    return weight

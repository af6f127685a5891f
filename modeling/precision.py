"""In which numbers a trained reranker computes its scores, and why.

    choose_precision("auto", "bfloat16", "cpu")     # ("bfloat16", "this CPU multiplies bfloat16 (avx512_bf16)")

Weights of float32 or bfloat16 are dense, with the adapter merged (`modeling.merge`). float32 is the reference that
exports are verified against. `auto` never computes in less than a reranker was trained in: one trained in bfloat16 is
scored in bfloat16 where the device multiplies it fast, and everything else in float32.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16", "nf4"]
"""What may be asked for; nf4 keeps the 4-bit weights and the adapter beside them: least memory, and slower."""
Computed = Literal["float32", "bfloat16", "nf4"]


def choose_precision(asked: Precision, trained: Literal["float32", "bfloat16"], device: str) -> tuple[Computed, str]:
    """What is computed in, and the reason in words.

    Args:
        trained: `dtype` that the reranker was trained in.
        device: `cpu`, `cuda` or `cuda:1`.
    """
    if asked != "auto":
        return asked, "as asked for"
    if trained == "float32":
        return "float32", "the reranker was trained in it"
    if device.startswith("cuda"):
        return "bfloat16", "the reranker was trained in it"
    instructions = bfloat16_instructions()
    if instructions:
        return "bfloat16", f"this CPU multiplies bfloat16 ({instructions})"
    return "float32", "this CPU has no instructions that multiply bfloat16"


def bfloat16_instructions() -> str:
    """The instructions of this CPU that oneDNN multiplies bfloat16 with; empty where it would emulate them, which is
    slower than float32."""
    import torch  # who only names a precision does not wait for it

    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    return ""

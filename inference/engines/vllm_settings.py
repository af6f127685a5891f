"""How vLLM runs: apart from its engine, so that who only says it imports no torch.

VllmSettings(lora="by_request", cache_gib=8)
"""

from __future__ import annotations

from typing import Literal

import msgspec

from reshelf.errors import InputError
from reshelf.modeling.precision import Precision


class VllmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How vLLM runs; sent to the engine's process as it is.

    >>> VllmSettings(lora="by_request", gpu_memory=0.5).cache_gib is None
    True
    """

    lora: Literal["merged", "by_request"] = "merged"
    """merged: the adapter added to the weights. by_request: a dense base and the adapter beside it, and others over the
    same base; on a CPU its kernels are about 8 times slower."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Weights and computation; None is the type the reranker was trained in. Never left to vLLM, which would cast
    float32 checkpoints to float16."""
    longest: int | None = None
    """Tokens of one request that must fit: prefix + one item. None takes it from the reranker's budgets and the model's
    limit."""
    batch_tokens: int = 8192
    """Tokens per engine step."""
    cache_gib: float | None = None
    """Memory of the prefix cache in GiB; None takes what `gpu_memory` leaves on a GPU, and room for 64 of the longest
    prompts, or 8 of the longest joint ones, on a CPU."""
    gpu_memory: float = 0.9
    """Share of the GPU's memory that vLLM may take."""


def with_precision(settings: VllmSettings, precision: Precision) -> VllmSettings:
    """The settings, computing in what was asked for.

    Raises:
        InputError: vLLM does not compute in it.
    """
    if precision == "auto":
        return settings
    if precision == "nf4":
        raise InputError("precision is nf4, and vLLM serves dense weights; choose float32 or bfloat16, or transformers")
    return msgspec.structs.replace(settings, dtype=precision)

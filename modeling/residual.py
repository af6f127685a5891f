"""The residual stream of a bfloat16 model in float32, on a CPU: what a layer adds is rounded, the sum is not.

    keep_residual_exact(causal)     # known families only: in others, operations may refuse two types

Matrix products and attention stay in bfloat16, so that it costs little time, and much of what bfloat16 changes in a
score is gone (`benchmarks/rounding.py`). Rotary embeddings turn queries and keys in float32 then, too.
"""

from __future__ import annotations

from typing import Any

import torch

from reshelf.modeling.last_layer import FAMILIES


def keep_residual_exact(causal: Any) -> None:
    """Let the layers of a causal LM, whose linear layers are `onednn.Linear`, add to float32."""
    if causal.config.get_text_config().model_type in FAMILIES:
        causal.get_input_embeddings().register_forward_hook(_exact)
        causal.get_decoder().norm.float()  # nothing rounds what the head reads


def _exact(_: Any, args: Any, embedded: torch.Tensor) -> torch.Tensor:
    return embedded.float()

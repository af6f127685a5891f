"""What a decoder computes with on its device: faster than transformers' own operations, the same up to rounding.

compute_fused(causal, "cpu")    # by `load_base`, and by pretraining for a new model
"""

from __future__ import annotations

from typing import Any

import torch

from reshelf.modeling.allocator import keep_freed_memory
from reshelf.modeling.liger import use_liger
from reshelf.modeling.norm import fuse_norms
from reshelf.modeling.onednn import use_onednn


def compute_fused(causal: Any, device: str | torch.device) -> None:
    """Let a causal LM that is, or will be, on `device` compute with what is fastest there."""
    if torch.device(device).type == "cuda":
        use_liger(causal)
    else:
        keep_freed_memory()
        use_onednn(causal)
        fuse_norms(causal)

"""A decoder of every known family computes with its device's kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reshelf.modeling.fused import compute_fused
from reshelf.modeling.last_layer import FAMILIES
from reshelf.modeling.norm import norms
from reshelf.modeling.onednn import Linear


def test_on_a_cpu_norms_and_linear_layers_are_ours(tiny_model: Callable[..., Any]) -> None:
    for family in FAMILIES:
        model = tiny_model(family)
        compute_fused(model, torch.device("cpu"))
        assert all("forward" in vars(norm) for norm, _ in norms(model))
        assert len(list(norms(model))) == sum(type(m).__name__.endswith("RMSNorm") for m in model.modules())
        linear = [type(m) for m in model.modules() if isinstance(m, torch.nn.Linear)]
        assert linear
        assert set(linear) == {Linear}, family

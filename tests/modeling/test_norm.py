"""A norm as one function is transformers' norm, with its gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from reshelf.modeling.last_layer import FAMILIES
from reshelf.modeling.norm import fuse_norms


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_outputs_and_gradients(family: str, kind: torch.dtype, bound: float, tiny_model: Callable[..., Any]) -> None:
    plain = tiny_model(family).to(kind)
    fused = copy.deepcopy(plain)
    fuse_norms(fused)
    norms = [name for name, module in plain.named_modules() if type(module).__name__.endswith("RMSNorm")]
    assert norms
    for name in norms:
        modules = plain.get_submodule(name), fused.get_submodule(name)
        assert "forward" in vars(modules[1])
        width, found = len(modules[0].weight), []
        torch.manual_seed(0)
        weight, d_out = torch.randn(width, dtype=kind), torch.randn(2, 3, 5, width, dtype=kind)
        x = torch.randn(2, 3, 5, width, dtype=kind) * 3
        for module in modules:
            module.weight.data.copy_(weight)
            given = x.clone().requires_grad_()
            out = module(given)
            assert out.dtype == kind
            found.append((out, *torch.autograd.grad(out, [given, module.weight], d_out)))
            assert torch.equal(given, x), "the input stays as it is"
        for mine, theirs in zip(found[1], found[0], strict=True):
            assert float((mine - theirs).detach().norm()) <= bound * float(theirs.detach().norm())


def test_frozen_weights_get_no_gradient(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen3")
    fuse_norms(model)
    norm = model.get_decoder().norm
    norm.weight.requires_grad_(False)
    x = torch.randn(4, len(norm.weight), requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is None

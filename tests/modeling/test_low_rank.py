"""A LoRA layer's step as one function gives what peft gives."""

from __future__ import annotations

import copy
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from reshelf.modeling.config import LoraConfig
from reshelf.modeling.loading import compute_in_input_dtype
from reshelf.modeling.low_rank import dropout, fuse_updates


class _Two(torch.nn.Module):
    def __init__(self, four_bit: bool, kind: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first: Any = torch.nn.Linear(64, 128, dtype=kind)
        self.second: Any = torch.nn.Linear(128, 64, bias=False, dtype=kind)
        if four_bit:
            for name in ("first", "second"):
                dense = getattr(self, name)
                layer = bnb.nn.Linear4bit(
                    dense.in_features, dense.out_features, dense.bias is not None, kind, quant_type="nf4"
                )
                layer.load_state_dict(dense.state_dict())
                setattr(self, name, layer.to("cpu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.nn.functional.silu(self.first(x)))
        return out


def adapted(four_bit: bool, kind: torch.dtype, dropout: float = 0.0, **more: Any) -> Any:
    import peft

    lora = LoraConfig(rank=4, alpha=8)
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=dropout, target_modules=["first", "second"], **more
    )
    model = peft.get_peft_model(_Two(four_bit, kind), config, autocast_adapter_dtype=False)
    compute_in_input_dtype(model)
    for n, (name, parameter) in enumerate(model.named_parameters()):
        if "lora_" in name:
            torch.manual_seed(n)
            torch.nn.init.normal_(parameter, std=0.2)
    return model.train()


def step(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Output, and gradients of input and adapters."""
    x = x.clone().requires_grad_()
    out = model(x)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    trained = [p for p in model.parameters() if p.requires_grad]
    mine, *others = torch.autograd.grad((out * weight).sum(), [x, *trained])
    return out, mine, others


@pytest.mark.parametrize(
    ("four_bit", "kind", "bound"),
    [(False, torch.float64, 1e-12), (True, torch.float32, 1e-5), (True, torch.bfloat16, 2e-2)],
)
def test_outputs_and_gradients(four_bit: bool, kind: torch.dtype, bound: float) -> None:
    model = adapted(four_bit, kind)
    x = torch.randn(2, 7, 64, dtype=kind)
    expected = step(model, x)
    fused = copy.deepcopy(model)
    fuse_updates(fused)
    found = step(fused, x)
    for mine, theirs in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
        assert mine.dtype == theirs.dtype
        assert float((mine - theirs).norm()) <= bound * float(theirs.norm())


def test_what_is_more_than_one_plain_update_stays_pefts() -> None:
    x = torch.randn(3, 64, dtype=torch.float64)
    for more in ({"use_dora": True}, {"lora_bias": True}):
        model = adapted(False, torch.float64, **more)
        for name, parameter in model.named_parameters():
            if name.endswith(("magnitude_vector.default.weight", "lora_B.default.bias")):
                torch.nn.init.uniform_(parameter, 1.0, 2.0)
        expected = model(x)
        fuse_updates(model)
        torch.testing.assert_close(model(x), expected)
    model = adapted(False, torch.float64)
    plain = model.base_model.model
    expected = torch.nn.functional.linear(x, plain.first.base_layer.weight, plain.first.base_layer.bias)
    two = model(x)
    fuse_updates(model)
    with model.disable_adapter():
        torch.testing.assert_close(plain.first(x), expected)
    model.add_adapter("other", model.peft_config["default"])
    model.base_model.set_adapter(["default", "other"])
    torch.testing.assert_close(model(x), two)  # the other's B is 0
    model.base_model.set_adapter("default")
    model.merge_adapter()
    torch.testing.assert_close(model(x), two)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_dropout_drops_its_share_of_every_column_and_keeps_the_mean(share: float) -> None:
    x = torch.rand(4001, 33) + 1
    torch.manual_seed(0)
    kept, left = dropout(x, share)
    torch.testing.assert_close(kept, torch.where(left, x / (1 - share), 0.0))
    error = (share * (1 - share) / len(x)) ** 0.5
    assert float(((~left).float().mean(0) - share).abs().max()) < 5 * error
    assert float(((~left).float().mean(1) - share).abs().mean()) < 5 * (share * (1 - share) / x.shape[1]) ** 0.5
    again, _ = dropout(x, share)
    assert not torch.equal(again, kept)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, share)[0], kept)


def test_dropout_is_of_the_update_alone_and_has_its_gradient() -> None:
    """The same mask forward and backward: the update is linear in A, so its gradient says what was kept."""
    model = adapted(False, torch.float64, dropout=0.5)
    fuse_updates(model)
    layer = model.base_model.model.first
    x = torch.randn(1, 5, 64, dtype=torch.float64)
    torch.manual_seed(3)
    out = layer(x)
    torch.manual_seed(3)
    kept, _ = dropout(x.reshape(-1, 64), 0.5)
    update = kept @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T * 2.0
    expected = torch.nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias) + update
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    trained = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    mine, theirs = (torch.autograd.grad((one * weight).sum(), trained) for one in (out, expected))
    torch.testing.assert_close(mine, theirs)
    model.eval()
    assert not torch.equal(layer(x), out)
    assert torch.equal(layer(x), layer(x))

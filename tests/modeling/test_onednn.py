"""float32 products by oneDNN are torch's, in any shape and any strides."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reshelf.modeling import onednn
from reshelf.modeling.onednn import Linear, linear, times, use_onednn

SIZES = st.integers(1, 70)


@given(SIZES, SIZES, SIZES, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_outputs_and_gradients(rows: int, width: int, wide: int, bias: bool, turned: bool, sliced: bool) -> None:
    torch.manual_seed(rows)
    x = torch.randn(2, rows, width)
    weight = torch.randn(width, wide).T if turned else torch.randn(wide, width)
    if sliced:
        x, weight = torch.randn(2, rows + 3, 2 * width)[:, 2:-1, ::2], torch.randn(wide, width + 5)[:, 5:]
    tensors = [x, weight, *([torch.randn(wide)] if bias else [])]
    d_out = torch.randn(2, rows, wide)
    mine, theirs = ([t.detach().to(kind).requires_grad_() for t in tensors] for kind in (torch.float32, torch.float64))
    found, expected = linear(*mine), F.linear(*theirs)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(times(*(t.detach() for t in mine)), found)
    for a, b in zip(
        torch.autograd.grad(found, mine, d_out), torch.autograd.grad(expected, theirs, d_out.double()), strict=True
    ):
        torch.testing.assert_close(a.double(), b, atol=1e-3, rtol=1e-4)


def test_gradients_that_nobody_wants_are_not_made() -> None:
    x, weight, bias = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True), torch.randn(5)
    linear(x, weight, bias).sum().backward()
    assert weight.grad is not None
    assert x.grad is bias.grad is None
    assert not linear(x, weight.detach(), bias).requires_grad


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_no_rows_and_other_types(kind: torch.dtype) -> None:
    weight = torch.randn(5, 4, dtype=kind)
    for rows in (0, 3):
        x = torch.randn(rows, 4, dtype=kind)
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


def test_plain_layers_compute_by_it_and_keep_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Sequential(torch.nn.Linear(5, 4, bias=False)))
    plain = copy.deepcopy(model)
    use_onednn(model)
    x = torch.randn(7, 6)
    torch.testing.assert_close(model(x), plain(x))
    assert [type(m) for m in model.modules() if isinstance(m, torch.nn.Linear)] == [Linear, Linear]
    mine, theirs = model.state_dict(), plain.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    copied = copy.deepcopy(model)
    copied[0].weight.data.zero_()
    torch.testing.assert_close(model(x), plain(x))
    monkeypatch.setattr(onednn, "HERE", False)  # another CPU
    assert torch.equal(model(x), plain(x))

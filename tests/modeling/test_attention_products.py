"""Attention by matrix products is that by flash attention calls, with its gradients, and is used where it pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reshelf.modeling import attention, attention_products
from reshelf.modeling.attention import shared_prefix_attention
from reshelf.modeling.attention_pieces import pieces
from reshelf.modeling.attention_products import products
from tests.modeling.rows import layout_of

LISTS = st.tuples(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=7))


def row_of(length: int, heads: int, groups: int, width: int, seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randn(1, n, length, width, generator=random, dtype=torch.float64, requires_grad=True)
        for n in (heads, groups, groups)
    ]


@given(data=st.data())
def test_products_equal_pieces(data: st.DataObject) -> None:
    """Whatever the chunks of a prefix, and however few logits are held at one time."""
    lists = data.draw(st.lists(LISTS, min_size=1, max_size=3))
    layout, window = layout_of(lists), data.draw(st.none() | st.integers(1, 60))
    groups = data.draw(st.sampled_from([1, 2]))
    heads = groups * data.draw(st.sampled_from([1, 3]))
    row = row_of(sum(n + sum(items) for n, items in lists), heads, groups, 8, data.draw(st.integers(0, 99)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_products, "_LOGITS", data.draw(st.sampled_from([1, 300, 1 << 20])))
        patch.setattr(attention_products, "_CHUNK", data.draw(st.sampled_from([1, 7, 256])))
        found = products(*row, layout, 0.3, None, window)
        expected = pieces(*row, layout, 0.3, None, window)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        weight = torch.randn(expected.shape, dtype=torch.float64)
        mine, theirs = (torch.autograd.grad((out * weight).sum(), row) for out in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("window", [None, 5, 31, 44])
@pytest.mark.parametrize("rest", [0, 23])
def test_behind_a_past(window: int | None, rest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_products, "_CHUNK", 10)
    layout = layout_of([(rest, [3, 6, 3])])
    row, past = row_of(rest + 12, 4, 2, 8, 0), row_of(20, 2, 2, 8, 1)[1:]
    with torch.no_grad():
        found = products(*row, layout, 0.3, (past[0], past[1]), window)
        expected = pieces(*row, layout, 0.3, (past[0], past[1]), window)
    torch.testing.assert_close(found, expected)


def test_wide_heads_are_multiplied_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As near to float32 as flash attention, with and without gradients."""
    layout, calls = layout_of([(60, [5, 9, 2]), (3, [1, 14])]), []

    def counting(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return products(*arguments)

    monkeypatch.setattr(attention, "products", counting)

    def attend(row: list[torch.Tensor], **more: Any) -> torch.Tensor:
        found: torch.Tensor = shared_prefix_attention(None, *row, None, 0.1, layout=layout, **more)[0]
        return found

    random = torch.Generator().manual_seed(0)
    row = [torch.randn(1, n, 94, 128, generator=random) for n in (4, 2, 2)]
    low = [x.bfloat16().requires_grad_() for x in row]
    wide = [x.requires_grad_() for x in row]
    exact, by_flash, multiplied = attend(wide), pieces(*low, layout, 0.1), attend(low)
    assert len(calls) == 1
    attend([x[..., :64] for x in low])
    attend(low, s_aux=torch.zeros(4, dtype=torch.bfloat16))
    assert len(calls) == 1, "narrow heads and sinks are flash attention's"
    weight = torch.linspace(-1, 1, exact.numel()).view(exact.shape)
    gradients = [
        torch.autograd.grad((out.float() * weight).sum(), of)
        for out, of in ((exact, wide), (by_flash, low), (multiplied, low))
    ]
    for truth, flash, mine in zip(
        (exact, *gradients[0]), (by_flash, *gradients[1]), (multiplied, *gradients[2]), strict=True
    ):
        gap, other = (float((x.float() - truth).norm() / truth.norm()) for x in (mine, flash))
        assert gap < 1.5 * other < 0.02

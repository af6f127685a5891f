"""Attention by matrix products is that by flash attention calls, and is used where it pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reshelf.modeling import attention_pieces, attention_products
from reshelf.modeling.attention_pieces import pieces
from reshelf.modeling.attention_products import products
from tests.modeling.rows import layout_of


@given(data=st.data())
def test_products_equal_pieces(data: st.DataObject) -> None:
    """Over random lists, of which a part may have been read before, and however few logits are held at one time."""
    prefix, lengths = data.draw(st.tuples(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=7)))
    layout, groups = layout_of([(prefix, lengths)]), data.draw(st.sampled_from([1, 2]))
    heads, (part,) = groups * data.draw(st.sampled_from([1, 3])), layout.parts
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    query, key, value = (
        torch.randn(1, n, prefix + sum(lengths), 8, generator=random, dtype=torch.float64)
        for n in (heads, groups, groups)
    )
    seam = data.draw(st.integers(0, prefix))
    contexts = [(key[:, :, :seam], value[:, :, :seam]), (key[:, :, seam:prefix], value[:, :, seam:prefix])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_products, "_LOGITS", data.draw(st.sampled_from([1, 300, 1 << 20])))
        rows = (x[:, :, prefix:] for x in (query, key, value))
        found = products(*rows, contexts, part.items, 0.3)
    expected = pieces(query, key, value, layout, 0.3)[:, prefix:].transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_wide_heads_are_multiplied_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As near to float32 as flash attention, without gradients; with them, its log-sum-exps are needed."""
    layout, calls = layout_of([(60, [5, 9, 2]), (3, [1, 14])]), []

    def counting(query: torch.Tensor, *rest: Any) -> torch.Tensor:
        calls.append(query.shape[2])
        return products(query, *rest)

    monkeypatch.setattr(attention_pieces, "products", counting)
    random = torch.Generator().manual_seed(0)
    row = [torch.randn(1, n, 94, 128, generator=random) for n in (4, 2, 2)]
    exact = pieces(*row, layout, 0.1)
    low = [x.bfloat16() for x in row]
    by_flash = pieces(*low, layout, 0.1)
    assert not calls
    with torch.no_grad():
        multiplied = pieces(*low, layout, 0.1)
        assert len(calls) == 2
        pieces(*row, layout, 0.1)
        pieces(*low, layout, 0.1, window=50)
        pieces(*(x[..., :64] for x in low), layout, 0.1)
    assert len(calls) == 2, "float32, windows and narrow heads are flash attention's"
    gaps = [float((out.float() - exact).abs().mean()) for out in (multiplied, by_flash)]
    assert gaps[0] < 1.1 * gaps[1] < 0.01

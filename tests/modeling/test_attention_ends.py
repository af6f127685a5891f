"""Attention of last tokens alone is what attention of the whole row gives them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reshelf.modeling.attention_ends import ends
from reshelf.modeling.attention_pieces import pieces
from tests.modeling.rows import layout_of

LISTS = st.tuples(st.integers(1, 30), st.lists(st.integers(1, 9), min_size=1, max_size=5))


def last_tokens(lists: list[tuple[int, list[int]]]) -> torch.Tensor:
    lengths = torch.tensor([length for _, items in lists for length in items])
    return sum(prefix for prefix, _ in lists) + lengths.cumsum(0) - 1


@given(st.data())
def test_outputs_and_gradients_are_those_of_all_tokens(data: st.DataObject) -> None:
    lists = data.draw(st.lists(LISTS, min_size=1, max_size=3))
    layout, rows = layout_of(lists), last_tokens(lists)
    window = data.draw(st.none() | st.integers(1, 40))
    groups = data.draw(st.sampled_from([1, 2]))
    heads = groups * data.draw(st.sampled_from([1, 3]))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    length = sum(prefix + sum(items) for prefix, items in lists)
    row = [
        torch.randn(1, n, length, 8, generator=random, dtype=torch.float64, requires_grad=True)
        for n in (heads, groups, groups)
    ]
    sinks = data.draw(st.booleans()) or None
    sinks = sinks and torch.randn(heads, generator=random, dtype=torch.float64, requires_grad=True)
    found = ends(*row, layout, rows, 0.3, None, window, sinks)
    expected = pieces(*row, layout, 0.3, None, window, sinks)
    assert found.shape == expected.shape
    torch.testing.assert_close(found[:, rows], expected[:, rows], rtol=1e-10, atol=1e-10)
    others = torch.ones(length, dtype=torch.bool).index_fill(0, rows, False)
    assert not found[:, others].any()
    weight = torch.randn(expected[:, rows].shape, generator=random, dtype=torch.float64)
    inputs: list[Any] = [*row, *([] if sinks is None else [sinks])]
    mine, theirs = (torch.autograd.grad((out[:, rows] * weight).sum(), inputs) for out in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("window", [None, 7, 25])
@pytest.mark.parametrize("rest", [0, 4])
def test_behind_a_past(window: int | None, rest: int) -> None:
    layout, rows = layout_of([(rest, [3, 6, 3])]), torch.tensor([2, 8, 11]) + rest
    random = torch.Generator().manual_seed(0)
    row = [torch.randn(1, n, rest + 12, 8, generator=random) for n in (4, 2, 2)]
    past = torch.randn(1, 2, 20, 8, generator=random), torch.randn(1, 2, 20, 8, generator=random)
    with torch.no_grad():
        found = ends(*row, layout, rows, 0.3, past, window)
        expected = pieces(*row, layout, 0.3, past, window)
    torch.testing.assert_close(found[:, rows], expected[:, rows])


def test_bfloat16_is_nearer_to_float32_than_the_whole_rows() -> None:
    lists = [(60, [5, 9, 2]), (3, [1, 14])]
    layout, rows = layout_of(lists), last_tokens(lists)
    random = torch.Generator().manual_seed(0)
    row = [torch.randn(1, n, 94, 128, generator=random).bfloat16() for n in (4, 2, 2)]
    exact = pieces(*(x.float() for x in row), layout, 0.1)[:, rows]
    found = ends(*row, layout, rows, 0.1), pieces(*row, layout, 0.1)
    gaps = [float((out[:, rows] - exact).abs().mean()) for out in found]
    assert gaps[0] < gaps[1] < 0.01

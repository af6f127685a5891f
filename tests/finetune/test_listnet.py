"""ListNet against a slow reference, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reshelf.finetune.losses.listnet import listnet


def slow(scores: list[list[float]], labels: list[list[int]], weights: list[float]) -> float:
    total = used = 0.0
    for s, y, w in zip(scores, labels, weights):
        gains = [2**grade - 1 for grade in y]
        if not sum(gains):
            continue
        norm = math.log(sum(math.exp(x) for x in s))
        total += w * sum(-g / sum(gains) * (x - norm) for g, x in zip(gains, s))
        used += w
    return total / used if used else 0.0


def grid(rows: list[list[float]], fill: float) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


rows = st.lists(
    st.tuples(
        st.lists(st.tuples(st.floats(-8, 8, width=32), st.integers(0, 3)), min_size=1, max_size=6), st.floats(0.125, 4)
    ),
    min_size=1,
    max_size=5,
)


@given(rows, st.floats(-50, 50))
def test_equals_the_slow_definition_whatever_the_padding_holds(lists: list, padding: float) -> None:
    scores = [[s for s, _ in row] for row, _ in lists]
    labels = [[y for _, y in row] for row, _ in lists]
    weights = [w for _, w in lists]
    mask = grid([[1.0] * len(s) for s in scores], 0.0).bool()
    value = listnet(grid(scores, padding), grid(labels, 3), mask, torch.tensor(weights))
    assert float(value) == pytest.approx(slow(scores, labels, weights), rel=1e-4, abs=1e-5)


def test_padding_and_lists_without_a_positive_get_no_gradient() -> None:
    scores = torch.tensor([[0.5, -1.0, 9.0], [2.0, 1.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    listnet(scores, torch.tensor([[3, 0, 3], [0, 0, 0]]), mask, torch.ones(2)).backward()
    assert scores.grad is not None
    assert scores.grad[0, 2] == 0
    assert torch.equal(scores.grad[1], torch.zeros(3))
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1]


def test_no_list_with_a_positive_gives_zero_and_not_nan() -> None:
    scores = torch.zeros(1, 2, requires_grad=True)
    value = listnet(scores, torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), torch.ones(1))
    value.backward()
    assert float(value) == 0
    assert torch.isfinite(scores.grad).all()


def test_one_positive_is_the_usual_softmax_loss() -> None:
    scores = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(4, 7)
    labels[range(4), [0, 3, 6, 2]] = 1
    value = listnet(scores, labels, torch.ones(4, 7, dtype=torch.bool), torch.ones(4))
    assert torch.allclose(value, torch.nn.functional.cross_entropy(scores, torch.tensor([0, 3, 6, 2])))

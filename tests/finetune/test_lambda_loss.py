"""NDCG-Loss2++ against a slow reference and sentence-transformers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import GRADED, Given, check_against, query_and_documents, same_as_peer
from sentence_transformers.cross_encoder.losses import LambdaLoss
from sentence_transformers.cross_encoder.losses.lambda_loss import NDCGLoss2PPScheme

from reshelf.finetune.losses.lambda_loss import lambda_loss


def slow(one: Given) -> float | None:
    n = range(len(one.scores))
    if max(one.labels) == min(one.labels):
        return None

    def discount(place: int) -> float:
        return math.log2(1 + place)

    ideal = sorted((2**label - 1 for label in one.labels), reverse=True)
    best = sum(gain / discount(place) for place, gain in enumerate(ideal, 1))
    order = sorted(n, key=lambda k: (-one.scores[k], one.labels[k], one.inverse[k]))
    place_of = {k: place for place, k in enumerate(order, 1)}
    total = 0.0
    for i in n:
        for j in n:
            if one.labels[i] > one.labels[j]:
                a, b = place_of[i], place_of[j]
                rho = abs(1 / discount(a) - 1 / discount(b))
                delta = abs(1 / discount(abs(a - b)) - 1 / discount(abs(a - b) + 1))
                gain = abs(2 ** one.labels[i] - 2 ** one.labels[j]) / best
                right = 1 / (1 + math.exp(-(one.scores[i] - one.scores[j])))
                total -= one.inverse[i] * (rho + 10 * delta) * gain * math.log2(right)
    return total


@given(GRADED, st.floats(-50, 50))
def test_equals_the_slow_definition_whatever_the_padding_holds(lists: list[Given], fill: float) -> None:
    check_against(lambda_loss, slow, lists, fill)


@pytest.mark.parametrize("mu", [10.0, 2.0])
def test_is_the_peers_per_pair(mu: float) -> None:
    """There a batch's sum is divided by its number of pairs (eight); the paper's sum over a list is not."""
    labels = torch.tensor([[3, 0, 1, 0, 1]])

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return lambda_loss(scores[None], labels, labels >= 0, torch.ones(1), torch.ones(1, 5), mu).mean() / 8

    def theirs(model: object) -> torch.Tensor:
        return LambdaLoss(model, NDCGLoss2PPScheme(mu))(query_and_documents(5), list(labels.float()))  # type: ignore[arg-type]

    same_as_peer(ours, theirs, 5)


def test_no_gradient_goes_through_places_and_gains() -> None:
    """The gradient is Σ stake · σ(s_j − s_i) / log 2 with stakes as constants: one pair, all by hand."""
    scores = torch.tensor([[0.3, 1.1]], requires_grad=True)
    labels = torch.tensor([[1, 0]])
    lambda_loss(scores, labels, labels >= 0, torch.ones(1), torch.ones(1, 2)).mean().backward()
    stake = (1 - 1 / math.log2(3)) * (1 + 10)
    expected = -stake / (1 + math.exp(-0.8)) / math.log(2)
    assert scores.grad is not None
    assert scores.grad[0].tolist() == pytest.approx([expected, -expected], rel=1e-5)

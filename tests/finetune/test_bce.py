"""Binary cross-entropy against a slow reference, torch and sentence-transformers; unbiased where places differ."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import GRADED, Given, check_against, same_as_peer
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from reshelf.finetune.losses.bce import bce


def slow(one: Given) -> float | None:
    total = 0.0
    for s, grade, w in zip(one.scores, one.labels, one.inverse):
        p, t = 1 / (1 + math.exp(-s)), grade / 3
        total -= w * t * math.log(p) + (1 - w * t) * math.log(1 - p)
    return total / len(one.scores)


@given(GRADED, st.floats(-50, 50))
def test_equals_the_slow_definition_whatever_the_padding_holds(lists: list[Given], fill: float) -> None:
    check_against(bce, slow, lists, fill, each_candidate=True)


def test_the_best_score_is_the_log_odds_of_the_grade() -> None:
    labels = torch.tensor([[0, 1, 2], [1, 0, 0]])
    odds = torch.tensor([[-9.0, math.log(1 / 2), math.log(2)], [math.log(1 / 2), 5.0, 5.0]])
    scores = odds.clone().requires_grad_()
    bce(scores, labels, torch.tensor([[1, 1, 1], [1, 0, 0]]).bool(), torch.ones(2), torch.ones(2, 3)).mean().backward()
    assert scores.grad is not None
    assert scores.grad[labels > 0].abs().max() < 1e-6, "also where 1 is the only grade of a list"
    assert scores.grad[0, 0] > 0


def test_a_candidate_weighs_the_same_in_a_short_list_and_in_a_long_one() -> None:
    mask = torch.tensor([[True, False, False], [True, True, True]])
    scores = torch.zeros(2, 3, requires_grad=True)
    bce(scores, torch.zeros(2, 3), mask, torch.ones(2), torch.ones(2, 3)).mean().backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, 0.5 / 4 * mask.float())


def test_is_that_of_torch_and_the_peer_on_binary_labels() -> None:
    """There labels are probabilities, so a purchase is 1; means are over all pairs there, all candidates here."""
    labels = torch.tensor([[0, 1, 0], [1, 1, 0]])

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return bce(scores.view(2, 3), 3 * labels, labels >= 0, torch.ones(2), torch.ones(2, 3)).mean()

    pairs = [["q"] * 6, [str(n) for n in range(6)]]
    same_as_peer(ours, lambda model: BinaryCrossEntropyLoss(model)(pairs, labels.flatten()), 6)
    scores = torch.linspace(-3, 4, 6)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels.flatten().float())
    torch.testing.assert_close(ours(scores), expected)


def test_the_mean_over_clicks_is_the_loss_on_relevance() -> None:
    """Two candidates, both clicked if looked at and wanted: over all outcomes the correction gives what labels of
    true wants would give. A third one is always bought."""
    wanted, propensities = (0.7, 0.3), (1.0, 0.25)
    scores = torch.tensor([[0.4, -0.8, 0.0]])
    mean = 0.0
    for clicks in np.ndindex(2, 2):
        chance = math.prod((w * p if c else 1 - w * p) for c, w, p in zip(clicks, wanted, propensities))
        inverse = torch.tensor([[*(1 / p if c else 1.0 for c, p in zip(clicks, propensities)), 1.0]])
        labels = 3 * torch.tensor([[*clicks, 1]])
        mean += chance * float(bce(scores, labels, labels >= 0, torch.ones(1), inverse).mean())
    ideal = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.tensor([[*wanted, 1.0]]))
    np.testing.assert_allclose(mean, float(ideal), rtol=1e-5)

"""ListMLE and its position-aware form against slow references and sentence-transformers."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import GRADED, Given, check_against, query_and_documents, same_as_peer
from sentence_transformers.cross_encoder.losses import ListMLELoss, PListMLELoss

from reshelf.finetune.losses.list_mle import list_mle, position_aware_list_mle


def slow(one: Given, aware: bool = False) -> float | None:
    """Place by place; where d candidates are tied, each stands at each of their places in turn."""
    n = len(one.scores)
    if max(one.labels) == min(one.labels):
        return None
    alpha = [2 ** (n - i) - 1 if aware else 1 for i in range(1, n + 1)]
    scale = sum(alpha) if aware else 1
    order = sorted(range(n), key=lambda k: -one.labels[k])
    total, place = 0.0, 0
    while place < n and one.labels[order[place]] > 0:
        tied = [k for k in order if one.labels[k] == one.labels[order[place]]]
        behind = sum(math.exp(one.scores[k]) for k in order[place + len(tied) :])
        for gone in range(len(tied)):
            share = 1 - gone / len(tied)
            still = math.log(share * sum(math.exp(one.scores[k]) for k in tied) + behind)
            for k in tied:
                total += alpha[place + gone] / scale * one.inverse[k] * (still - one.scores[k]) / len(tied)
        place += len(tied)
    return total


@given(GRADED, st.floats(-50, 50))
def test_equals_the_slow_definition_whatever_the_padding_holds(lists: list[Given], fill: float) -> None:
    check_against(list_mle, slow, lists, fill)


@given(GRADED, st.floats(-50, 50))
def test_the_aware_one_equals_its_slow_definition(lists: list[Given], fill: float) -> None:
    check_against(position_aware_list_mle, lambda one: slow(one, aware=True), lists, fill)


@pytest.mark.parametrize(("mine", "peer"), [(list_mle, ListMLELoss), (position_aware_list_mle, PListMLELoss)])
def test_is_the_peers_on_lists_without_ties(mine: object, peer: object) -> None:
    """There ties are broken by the order in the list, and all places count: without ties both have nothing to say."""
    labels = torch.tensor([[1, 3, 0, 2], [2, 0, 1, -1]])  # -1 is padding

    def ours(scores: torch.Tensor) -> torch.Tensor:
        padded = torch.cat([scores, torch.zeros(1)]).view(2, 4)
        return mine(padded, labels, labels >= 0, torch.ones(2), torch.ones(2, 4)).mean()  # type: ignore[operator]

    def theirs(model: object) -> torch.Tensor:
        wanted = [labels[0].float(), labels[1, :3].float()]
        return peer(model, respect_input_order=False)(query_and_documents(4, 3), wanted)  # type: ignore[operator]

    same_as_peer(ours, theirs, 7)


def test_one_positive_is_the_usual_softmax_loss() -> None:
    scores = torch.randn(1, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(1, 9).index_fill(1, torch.tensor([4]), 2)
    value = list_mle(scores, labels, labels >= 0, torch.ones(1), torch.ones(1, 9)).mean()
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(scores, torch.tensor([4])))


def test_ties_come_close_to_the_mean_over_their_orders() -> None:
    scores, tied, rest = np.array([0.4, -0.2, 0.7, -0.1, -1.5, 0.0]), [0, 1, 2], [3, 4, 5]
    each = []
    for order in permutations(tied):
        left = [*order, *rest]
        each.append(sum(np.log(np.exp(scores[left[p:]]).sum()) - scores[left[p]] for p in range(3)))
    labels = torch.tensor([[2, 2, 2, 0, 0, 0]])
    value = list_mle(torch.tensor(scores)[None], labels, labels >= 0, torch.ones(1), torch.ones(1, 6)).mean()
    assert np.mean(each) < float(value) < np.mean(each) + 0.02  # the logarithm of a mean is above that of logarithms
    assert max(each) - min(each) > 0.1, "which order is taken makes a difference"


def test_weights_of_places_do_not_overflow_in_long_lists() -> None:
    scores = torch.zeros(1, 400, requires_grad=True)
    labels = torch.zeros(1, 400).index_fill(1, torch.tensor([200]), 1)
    value = position_aware_list_mle(scores, labels, labels >= 0, torch.ones(1), torch.ones(1, 400)).mean()
    value.backward()
    assert float(value.detach()) == pytest.approx(
        0.5 * math.log(400), rel=1e-5
    )  # the first place has half of all weight
    assert torch.isfinite(scores.grad).all()  # type: ignore[arg-type]

"""ListNet against a slow reference, torch and sentence-transformers."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import GRADED, Given, check_against, query_and_documents, same_as_peer
from sentence_transformers.cross_encoder.losses import ListNetLoss

from reshelf.finetune.losses.listnet import listnet


def slow(one: Given) -> float | None:
    gains = [2**grade - 1 for grade in one.labels]
    if not sum(gains):
        return None
    norm = math.log(sum(math.exp(s) for s in one.scores))
    return sum(-w * g / sum(gains) * (s - norm) for w, g, s in zip(one.inverse, gains, one.scores))


@given(GRADED, st.floats(-50, 50))
def test_equals_the_slow_definition_whatever_the_padding_holds(lists: list[Given], fill: float) -> None:
    check_against(listnet, slow, lists, fill)


def test_one_positive_is_the_usual_softmax_loss() -> None:
    scores = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(4, 7)
    labels[range(4), [0, 3, 6, 2]] = 1
    value = listnet(scores, labels, torch.ones(4, 7, dtype=torch.bool), torch.ones(4), torch.ones(4, 7)).mean()
    assert torch.allclose(value, torch.nn.functional.cross_entropy(scores, torch.tensor([0, 3, 6, 2])))


def test_is_the_peers_where_targets_are_the_same() -> None:
    """There targets are a softmax of the labels; labels of log gains make them our gains over their sum."""
    labels = torch.tensor([[3, 0, 1, 2], [0, 1, 1, 0]])
    gains = (torch.exp2(labels.float()) - 1).log()

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return listnet(scores.view(2, 4), labels, labels >= 0, torch.ones(2), torch.ones(2, 4)).mean()

    same_as_peer(ours, lambda model: ListNetLoss(model)(query_and_documents(4, 4), list(gains)), 8)

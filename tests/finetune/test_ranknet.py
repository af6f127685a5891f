"""RankNet against a slow reference and sentence-transformers."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import GRADED, Given, check_against, query_and_documents, same_as_peer
from sentence_transformers.cross_encoder.losses import RankNetLoss

from reshelf.finetune.losses.ranknet import ranknet


def slow(one: Given) -> float | None:
    n = range(len(one.scores))
    each = [
        one.inverse[i] * math.log(1 + math.exp(-(one.scores[i] - one.scores[j])))
        for i in n
        for j in n
        if one.labels[i] > one.labels[j]
    ]
    return sum(each) / len(each) if each else None


@given(GRADED, st.floats(-50, 50))
def test_equals_the_slow_definition_whatever_the_padding_holds(lists: list[Given], fill: float) -> None:
    check_against(ranknet, slow, lists, fill)


def test_is_the_peers_where_lists_have_the_same_number_of_pairs() -> None:
    """There the mean is over the pairs of the whole batch; logarithms are to base 2 unless asked otherwise."""
    labels = torch.tensor([[3, 0, 1, 0], [0, 1, 2, 1]])  # five pairs each

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return ranknet(scores.view(2, 4), labels, labels >= 0, torch.ones(2), torch.ones(2, 4)).mean()

    def theirs(model: object) -> torch.Tensor:
        return RankNetLoss(model, reduction_log="natural")(query_and_documents(4, 4), list(labels.float()))  # type: ignore[arg-type]

    same_as_peer(ours, theirs, 8)

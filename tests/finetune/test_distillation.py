"""Margin-MSE, KL and cross-entropy of a teacher against slow references, torch and sentence-transformers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import TAUGHT, Given, check_against, same_as_peer
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, MarginMSELoss

from reshelf.finetune.losses.kl import kl
from reshelf.finetune.losses.margin_mse import margin_mse
from reshelf.finetune.losses.teacher_bce import teacher_bce


def slow_margins(one: Given) -> float | None:
    n = range(len(one.scores))
    each = [((one.scores[i] - one.scores[j]) - (one.labels[i] - one.labels[j])) ** 2 for i in n for j in n if i < j]
    return sum(each) / len(each) if each else None


def slow_kl(one: Given, temperature: float) -> float | None:
    if len(one.scores) < 2:
        return None

    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value / temperature) for value in values]
        return [power / sum(powers) for power in powers]

    shares = zip(softmax(one.labels), softmax(one.scores))
    return temperature**2 * sum(p * math.log(p / q) for p, q in shares)


def slow_bce(one: Given) -> float:
    total = 0.0
    for s, t in zip(one.scores, one.labels):
        student, teacher = 1 / (1 + math.exp(-s)), 1 / (1 + math.exp(-t))
        total -= teacher * math.log(student) + (1 - teacher) * math.log(1 - student)
    return total / len(one.scores)


@given(TAUGHT, st.floats(-50, 50))
def test_cross_entropy_equals_the_slow_definition(lists: list[Given], fill: float) -> None:
    check_against(lambda s, t, m, w, _: teacher_bce(s, t, m, w), slow_bce, lists, fill, each_candidate=True)


def test_cross_entropy_is_the_peers_where_labels_are_the_teachers_probabilities() -> None:
    teacher = torch.tensor([[2.0, -0.5, 0.25], [1.0, 0.0, -3.0]])

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return teacher_bce(scores.view(2, 3), teacher, torch.ones(2, 3, dtype=torch.bool), torch.ones(2)).mean()

    pairs = [["q"] * 6, [str(n) for n in range(6)]]
    same_as_peer(ours, lambda model: BinaryCrossEntropyLoss(model)(pairs, teacher.flatten().sigmoid()), 6)


def test_cross_entropy_is_least_at_the_teachers_own_scores() -> None:
    teacher = torch.tensor([[2.0, -0.5], [1.5, 9.0]])
    scores = teacher.clone().requires_grad_()
    teacher_bce(scores, teacher, torch.tensor([[True, True], [True, False]]), torch.ones(2)).mean().backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-6


@given(TAUGHT, st.floats(-50, 50))
def test_margins_equal_the_slow_definition(lists: list[Given], fill: float) -> None:
    check_against(lambda s, t, m, w, _: margin_mse(s, t, m, w), slow_margins, lists, fill)


@given(TAUGHT, st.floats(-50, 50), st.sampled_from([1.0, 0.5, 4.0]))
def test_kl_equals_the_slow_definition(lists: list[Given], fill: float, temperature: float) -> None:
    check_against(lambda s, t, m, w, _: kl(s, t, m, w, temperature), lambda o: slow_kl(o, temperature), lists, fill)


def test_kl_is_that_of_torch() -> None:
    scores, teacher = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    value = kl(scores, teacher, torch.ones(3, 5, dtype=torch.bool), torch.ones(3)).mean()
    logs = (values.log_softmax(1) for values in (scores, teacher))
    torch.testing.assert_close(value, torch.nn.functional.kl_div(*logs, reduction="batchmean", log_target=True))


def test_margins_are_the_peers_over_every_pair() -> None:
    """There a margin is that of one positive and one negative: each pair of the list is given as such."""
    teacher = torch.tensor([2.0, -0.5, 0.25, 1.0])
    pairs = [(i, j) for i in range(4) for j in range(i)]

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return margin_mse(scores[None], teacher[None], torch.ones(1, 4, dtype=torch.bool), torch.ones(1)).mean()

    def theirs(model: object) -> torch.Tensor:
        inputs = [["q"] * 6, [str(i) for i, _ in pairs], [str(j) for _, j in pairs]]
        return MarginMSELoss(model)(inputs, torch.stack([teacher[i] - teacher[j] for i, j in pairs]))  # type: ignore[arg-type]

    same_as_peer(ours, theirs, 4)


@pytest.mark.parametrize("loss", [margin_mse, kl])
def test_a_student_with_the_teachers_differences_is_done(loss: object) -> None:
    teacher = torch.tensor([[2.0, -0.5, 0.25]])
    scores = (teacher + 7).requires_grad_()
    value = loss(scores, teacher, torch.ones(1, 3, dtype=torch.bool), torch.ones(1)).mean()  # type: ignore[operator]
    value.backward()
    assert abs(float(value.detach())) < 1e-6
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-5

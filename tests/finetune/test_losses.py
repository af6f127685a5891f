"""What holds for every loss: padding, order, level of scores, extreme scores, lists that teach nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import GRADED, Given, tensors

from reshelf.finetune.losses.bce import bce
from reshelf.finetune.losses.kl import kl
from reshelf.finetune.losses.lambda_loss import lambda_loss
from reshelf.finetune.losses.list_mle import list_mle, position_aware_list_mle
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.losses.margin_mse import margin_mse
from reshelf.finetune.losses.ranknet import ranknet
from reshelf.finetune.losses.teacher_bce import teacher_bce
from reshelf.finetune.losses.weighted_sum import (
    LossSum,
    candidates,
    with_positive,
    with_two_candidates,
    with_two_grades,
)

Loss = Callable[..., LossSum]
ON_LABELS = [bce, ranknet, listnet, lambda_loss, list_mle, position_aware_list_mle]
BY_LIST = [loss for loss in ON_LABELS if loss is not bce]
ON_TEACHER = [kl, partial(kl, temperature=3.0), margin_mse]


def taught(loss: Loss) -> Loss:
    """A loss on a teacher's scores in the shape of one on labels."""
    return lambda scores, teacher, mask, weights, _: loss(scores, teacher, mask, weights)


POINTWISE = [bce, taught(teacher_bce)]
MARGINS = taught(margin_mse)
ALL = [*ON_LABELS, *(taught(loss) for loss in ON_TEACHER[:2]), MARGINS, POINTWISE[1]]
every_loss = pytest.mark.parametrize("loss", ALL)


def value_and_gradient(loss: Loss, scores: torch.Tensor, *rest: torch.Tensor) -> tuple[float, np.ndarray]:
    scores = scores.clone().requires_grad_()
    value = loss(scores, *rest).mean()
    assert value.shape == ()
    assert value.dtype == torch.float32
    value.backward()
    assert scores.grad is not None
    return float(value.detach()), scores.grad.numpy()


def close(a: object, b: object) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


@every_loss
@given(lists=GRADED, extra=st.integers(0, 3), fill=st.sampled_from([0.0, 50.0, -1e30, 1e30]))
def test_padding_changes_nothing_and_gets_no_gradient(loss: Loss, lists: list[Given], extra: int, fill: float) -> None:
    value, gradient = value_and_gradient(loss, *tensors(lists))
    again, wide = value_and_gradient(loss, *tensors(lists, extra, fill))
    close(again, value)
    close(wide[:, : gradient.shape[1]], gradient)
    assert not wide[~tensors(lists, extra)[2].numpy()].any()


@every_loss
@given(lists=GRADED, seed=st.integers(0, 99))
def test_the_order_of_candidates_does_not_matter(loss: Loss, lists: list[Given], seed: int) -> None:
    draws = np.random.default_rng(seed)
    orders = [draws.permutation(len(one.scores)) for one in lists]
    moved = [
        Given(*([column[k] for k in order] for column in (one.scores, one.labels, one.inverse)), weight=one.weight)
        for one, order in zip(lists, orders)
    ]
    value, gradient = value_and_gradient(loss, *tensors(lists))
    again, turned = value_and_gradient(loss, *tensors(moved))
    close(again, value)
    for one, order, before, after in zip(lists, orders, gradient, turned):
        if len(set(one.scores)) == len(one.scores):  # of equal ones, which gets which part may change
            close(after[: len(order)], before[order])


@pytest.mark.parametrize("loss", [loss for loss in ALL if loss not in POINTWISE])
@given(lists=GRADED, level=st.integers(-400, 400))
def test_only_differences_between_scores_count(loss: Loss, lists: list[Given], level: int) -> None:
    value, gradient = value_and_gradient(loss, *tensors(lists))
    raised = [replace(one, scores=[s + level / 8 for s in one.scores]) for one in lists]
    again, same = value_and_gradient(loss, *tensors(raised))
    close(again, value)
    close(same, gradient)
    np.testing.assert_allclose(gradient.sum(1), 0.0, atol=1e-4)


@every_loss
@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("right", [1.0, -1.0, 0.0])
def test_extreme_scores_have_finite_gradients(loss: Loss, size: float, right: float) -> None:
    if loss is MARGINS and size > 1e15:
        pytest.skip("a square of this is no float32; a teacher that far off is no teacher")
    labels = torch.tensor([[3, 1, 0, 1, 0]])
    scores = right * size * (labels.float() - 1) + torch.tensor([[0.0, 1.0, -1.0, 0.5, 0.0]])
    value, gradient = value_and_gradient(loss, scores, labels, labels >= 0, torch.ones(1), torch.ones(1, 5))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if right < 0 and loss in ON_LABELS:
        assert gradient[0, 0] < 0 < gradient[0, 4], "a wrong order is still pushed right"


@pytest.mark.parametrize("loss", [loss for loss in ALL if loss not in POINTWISE])
def test_lists_that_teach_nothing_are_left_out_of_the_mean(loss: Loss) -> None:
    rows = [Given([0.5, -1.0, 2.0], [3, 0, 1], [2.0, 1.0, 1.0], 2.0), Given([3.0], [0], [1.0], 5.0)]
    alone, _ = value_and_gradient(loss, *tensors(rows[:1]))
    both, gradient = value_and_gradient(loss, *tensors(rows))
    close(both, alone)
    assert not gradient[1].any()
    nothing, gradient = value_and_gradient(loss, *tensors(rows[1:]))
    assert nothing == 0
    assert not gradient.any()


@every_loss
def test_a_list_without_weight_teaches_nothing(loss: Loss) -> None:
    rows = [Given([0.5, -1.0, 2.0], [3, 0, 1], [2.0, 1.0, 1.0], 2.0), Given([1.0, 0.0], [0, 3], [1.0, 1.0], 0.0)]
    alone, _ = value_and_gradient(loss, *tensors(rows[:1]))
    both, gradient = value_and_gradient(loss, *tensors(rows))
    close(both, alone)
    assert not gradient[1].any()
    stand_in, gradient = value_and_gradient(loss, *tensors(rows[1:]))
    assert stand_in == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", POINTWISE)
def test_a_list_of_one_candidate_without_a_label_teaches_what_takes_each_alone(loss: Loss) -> None:
    value, gradient = value_and_gradient(loss, *tensors([Given([2.0], [0], [1.0], 1.0)]))
    assert value > 0
    assert gradient[0, 0] > 0


@every_loss
@given(lists=GRADED)
def test_sums_and_weights_of_parts_add_up_to_those_of_all_lists(loss: Loss, lists: list[Given]) -> None:
    """What the trainer does with forward passes and processes that hold unlike shares of a step."""
    whole = loss(*tensors(lists))
    parts = [loss(*tensors([one])) for one in lists]
    for name in ("sum", "weight"):
        close(sum(float(getattr(part, name)) for part in parts), float(getattr(whole, name)))


@every_loss
@given(lists=GRADED, size=st.sampled_from([0.0, 3.0, 1e30]))
def test_the_weight_depends_on_neither_scores_nor_propensities(loss: Loss, lists: list[Given], size: float) -> None:
    """The trainer asks for it before the first forward pass of a step."""
    scores, labels, mask, weights, inverse = tensors(lists)
    found = loss(torch.full_like(scores, size), labels, mask, weights, torch.ones_like(inverse)).weight
    assert found.item() == loss(scores, labels, mask, weights, inverse).weight.item()


def test_what_lists_count_leaves_padding_out() -> None:
    labels = torch.tensor([[0, 0, 3], [0, 2, 3], [1, 1, 0], [1, 0, 3]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]]).bool()
    assert with_positive(labels, mask).tolist() == [0, 1, 1, 1]
    assert with_two_grades(labels, mask).tolist() == [0, 1, 0, 0]
    assert with_two_candidates(mask).tolist() == [1, 1, 1, 0]
    assert candidates(mask).tolist() == [2, 2, 2, 1]


@pytest.mark.parametrize("loss", BY_LIST)
def test_lists_without_a_positive_teach_nothing(loss: Loss) -> None:
    value, gradient = value_and_gradient(loss, *tensors([Given([0.5, -1.0], [0, 0], [1.0, 1.0], 1.0)]))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", ON_LABELS)
def test_a_click_where_few_look_counts_by_its_inverse_propensity(loss: Loss) -> None:
    """Alone in its list, where a correction that is normalised within the list would cancel."""
    rows = [Given([0.5, -1.0, 2.0], [0, 1, 0], [1.0, 1.0, 1.0], 1.0)]
    _, plain = value_and_gradient(loss, *tensors(rows))
    _, corrected = value_and_gradient(loss, *tensors([replace(rows[0], inverse=[1.0, 4.0, 1.0])]))
    if loss is bce:  # Σ of σ(s) − w·t over three candidates, t = 1/3
        close(corrected - plain, [[0, -(4.0 - 1.0) / 3 / 3, 0]])
    else:
        close(corrected, 4 * plain)
    assert corrected[0, 1] < plain[0, 1] < 0


@pytest.mark.parametrize("loss", BY_LIST)
@pytest.mark.parametrize("grade", [1, 2, 3])
def test_a_log_with_one_grade_means_the_same_whichever_it_is(loss: Loss, grade: int) -> None:
    rows = [Given([0.5, -1.0, 2.0], [0, grade, 0], [1.0, 1.0, 1.0], 1.0)]
    clicks = [replace(rows[0], labels=[0, 1, 0])]
    close(value_and_gradient(loss, *tensors(rows))[1], value_and_gradient(loss, *tensors(clicks))[1])


@pytest.mark.parametrize("loss", ON_LABELS)
def test_descending_each_loss_puts_a_list_in_the_order_of_its_labels(loss: Loss) -> None:
    labels = torch.tensor([[0, 3, 1, 0, 2]])
    scores = torch.tensor([[2.0, -1.0, 0.0, 1.0, 0.0]], requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss(scores, labels, labels >= 0, torch.ones(1), torch.ones(1, 5)).mean().backward()
        optimizer.step()
    found = scores.detach()[0]
    assert found[1] > found[4] > found[2] > max(found[0], found[3])

"""What the tests of losses share: lists that hypothesis makes, padding, and a cross-encoder with given scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from sentence_transformers.cross_encoder import CrossEncoder

from reshelf.finetune.losses.weighted_sum import LossSum


@dataclass
class Given:
    """One list: what a loss is given of it, each float [K]."""

    scores: list[float]
    labels: list[float]
    """Grades, or a teacher's scores."""
    inverse: list[float]
    weight: float


def lists_of(labels: st.SearchStrategy[Any], most: int = 6) -> st.SearchStrategy[list[Given]]:
    """One to four lists of one to `most` candidates; scores are far apart or equal, but never nearly equal."""
    scores = st.integers(-64, 64).map(lambda n: n / 8)
    candidate = st.tuples(scores, labels, st.integers(4, 40).map(lambda n: n / 4))
    one = st.tuples(st.lists(candidate, min_size=1, max_size=most), st.floats(0.125, 4))
    return st.lists(
        one.map(lambda made: Given(*(list(column) for column in zip(*made[0], strict=True)), weight=made[1])),
        min_size=1,
        max_size=4,
    )


GRADED = lists_of(st.integers(0, 3))
TAUGHT = lists_of(st.integers(-32, 32).map(lambda n: n / 8))


def tensors(lists: Sequence[Given], extra: int = 0, fill: float = 0.0) -> tuple[torch.Tensor, ...]:
    """Scores, labels, mask, weights, inverse propensities; padding holds `fill` in scores, 3 in labels, else 7."""
    longest = max(len(one.scores) for one in lists) + extra

    def grid(rows: list[list[float]], padding: float) -> torch.Tensor:
        return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])

    return (
        grid([one.scores for one in lists], fill).float(),
        grid([one.labels for one in lists], 3),
        grid([[1] * len(one.scores) for one in lists], 0).bool(),
        torch.tensor([one.weight for one in lists]),
        grid([one.inverse for one in lists], 7.0).float(),
    )


def check_against(
    loss: Callable[..., LossSum],
    slow: Callable[[Given], float | None],
    lists: Sequence[Given],
    fill: float,
    each_candidate: bool = False,
) -> None:
    """`loss` is the weighted mean of `slow` over the lists where that is not None, whatever the padding holds.

    With `each_candidate` a list weighs as many times as it has candidates.
    """
    found = [(one.weight * (len(one.scores) if each_candidate else 1), slow(one)) for one in lists]
    taught = [(weight, value) for weight, value in found if value is not None]
    expected = sum(w * v for w, v in taught) / sum(w for w, _ in taught) if taught else 0.0
    assert float(loss(*tensors(lists, 2, fill)).mean()) == pytest.approx(expected, rel=2e-5, abs=2e-5)


class GivenScores(CrossEncoder):
    """A cross-encoder of sentence-transformers whose score of a pair is the number that the pair's text names."""

    def __init__(self, scores: torch.Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.scores = scores

    device = torch.device("cpu")  # type: ignore[assignment]
    num_labels = 1  # type: ignore[assignment]

    def preprocess(self, pairs: Sequence[tuple[str, str]], **_: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"rows": torch.tensor([int(document) for _, document in pairs])}

    def forward(self, tokens: dict[str, torch.Tensor], **_: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"scores": self.scores[tokens["rows"]]}


def same_as_peer(ours: Callable[[torch.Tensor], torch.Tensor], theirs: Callable[[Any], torch.Tensor], n: int) -> None:
    """Value and gradient of our loss of `n` scores are those of a loss of sentence-transformers over `GivenScores`."""
    numbers = np.random.default_rng(n).normal(size=n, scale=3)
    mine, other = (torch.tensor(numbers, dtype=torch.float32, requires_grad=True) for _ in range(2))
    value, expected = ours(mine), theirs(GivenScores(other))
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert mine.grad is not None
    assert other.grad is not None
    assert other.grad.abs().max() > 1e-3
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


def query_and_documents(*sizes: int) -> list[Any]:
    """Inputs of a listwise loss there: one query per list, and documents that number the scores."""
    ends = np.cumsum([0, *sizes])
    return [["q"] * len(sizes), [[str(n) for n in range(a, b)] for a, b in pairwise(ends)]]

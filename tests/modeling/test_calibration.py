"""Probabilities from raw scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from reshelf.errors import InputError
from reshelf.modeling.calibration import Calibration, fit_calibration


def made(n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, whether wanted, and the true probability: a sigmoid of twice the score, moved."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=n)
    true = 1 / (1 + np.exp(-(2 * scores - 1.5)))
    return scores, rng.random(n) < true, true


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_probabilities_come_back(method: str) -> None:
    scores, wanted, true = made()
    found = fit_calibration(scores, wanted, method).probability(scores)  # type: ignore[arg-type]
    assert np.abs(found - true).mean() < 0.02


def test_platt_is_the_minimum_of_its_loss() -> None:
    scores, wanted, _ = made(300)
    n = wanted.sum()
    targets = np.where(wanted, (n + 1) / (n + 2), 1 / (len(wanted) - n + 2))

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * scores + parameters[1]
        return float((np.logaddexp(0, z) - targets * z).sum())

    best = minimize(loss, [1.0, 0.0]).x
    found = fit_calibration(scores, wanted, "platt")
    np.testing.assert_allclose([found.slope, found.intercept], best, atol=2e-3)


def test_isotonic_is_the_best_rising_fit_by_pooling_neighbours() -> None:
    scores, wanted, _ = made(60)
    order = np.argsort(scores)
    blocks: list[tuple[float, int]] = []
    for value in wanted[order].astype(float):
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    slow = np.concatenate([np.full(n, value) for value, n in blocks])
    found = fit_calibration(scores, wanted, "isotonic").probability(scores[order])
    np.testing.assert_allclose(found, slow, atol=1e-12)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_any_score_has_a_probability_and_a_higher_one_no_lower(method: str, some: list[float]) -> None:
    calibration = fit_calibration(*made(500)[:2], method)  # type: ignore[arg-type]
    found = calibration.probability(np.sort(some))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


def test_one_kind_of_outcome_teaches_nothing() -> None:
    with pytest.raises(InputError, match="wanted"):
        fit_calibration(np.arange(3.0), np.zeros(3, dtype=bool))


def test_shape_is_kept() -> None:
    assert Calibration("platt").probability(np.zeros((2, 3))).shape == (2, 3)

"""Bootstrap intervals against resampling by hand, against theory, and against scikit-learn for AUC."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import roc_auc_score

from reshelf.metrics.bootstrap import auc_interval, interval, resample


def test_every_resample_draws_as_many_lists_as_there_are() -> None:
    weights = resample(37, 50, seed=1)
    assert weights.shape == (50, 37)
    assert (weights.sum(axis=1) == 37).all()
    assert (weights != 1).any()


def test_the_seed_decides_the_interval() -> None:
    values = np.random.default_rng(0).random(50)
    same = [interval(values, resample(50, 200, seed=3)) for _ in range(2)]
    assert same[0] == same[1]
    assert interval(values, resample(50, 200, seed=4)) != same[0]


def test_interval_equals_means_of_repeated_lists() -> None:
    values = np.random.default_rng(0).random(20)
    weights = resample(20, 300, seed=0)
    means = [np.repeat(values, row).mean() for row in weights]
    low, high = np.quantile(means, [0.025, 0.975])
    assert interval(values, weights) == pytest.approx((values.mean(), low, high))


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=400)
    ours = interval(values, resample(400, 4000, seed=0))
    theirs = scipy_bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    weights = resample(80, 400, seed=0)
    covered = 0
    for _ in range(300):
        found = interval(rng.normal(0.5, 0.2, 80), weights)
        covered += found.low <= 0.5 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_lists_without_a_value_do_not_count() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan])
    found = interval(values, resample(4, 500, seed=0))
    assert found.mean == 2
    assert 1 <= found.low <= found.high <= 3
    assert np.isnan(interval(np.full(4, np.nan), resample(4, 10, seed=0))).all()


def test_a_constant_difference_is_certain_however_much_the_lists_vary() -> None:
    first = np.random.default_rng(0).random(60)
    weights = resample(60, 200, seed=0)
    paired = interval((first + 0.1) - first, weights)
    assert paired.low == pytest.approx(0.1)
    assert paired.high == pytest.approx(0.1)
    alone = interval(first, weights)
    assert alone.high - alone.low > 0.05


def test_large_sets_are_resampled_in_pieces_with_the_same_result() -> None:
    values = np.random.default_rng(0).random(20_000)
    weights = resample(20_000, 300, seed=0)  # more counts than one piece holds
    means = (weights.astype(np.float64) @ values) / 20_000
    assert interval(values, weights)[1:] == pytest.approx(np.quantile(means, [0.025, 0.975]))


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=30), st.integers(0, 10_000))
def test_auc_of_a_resample_equals_scikit_learn_with_weights(scores: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, n = np.array(scores), len(scores)
    relevant = rng.random(n) < 0.5
    relevant[0], relevant[-1] = True, False
    rows_of = np.sort(rng.integers(3, size=n))
    row = rng.integers(1, 4, 3)
    found = auc_interval(values, relevant, rows_of, row[None])
    assert found.mean == pytest.approx(roc_auc_score(relevant, values))
    expected = roc_auc_score(relevant, values, sample_weight=row[rows_of])
    assert found.low == pytest.approx(expected)
    assert found.high == pytest.approx(expected)


def test_auc_needs_both_labels() -> None:
    found = auc_interval(np.array([1.0, 2.0]), np.array([True, True]), np.array([0, 1]), resample(2, 10, seed=0))
    assert np.isnan(found).all()

"""What an order would be worth, from clicks on another: against a slow sum, and shoppers who look everywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.counterfactual import snips_dcg
from reshelf.metrics.bootstrap import resample

ONES = np.ones(1)


def shown(labels: list[int], places: list[int]) -> RankingList:
    names = tuple(f"p{i}" for i in range(len(labels)))
    return RankingList(list_id="a", user_id="u", candidates=names, labels=tuple(labels), positions=tuple(places))


@st.composite
def logged(draw: st.DrawFn) -> tuple[list[RankingList], list[list[float]], np.ndarray]:
    lists, scores = [], []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 6))
        labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
        lists.append(shown(labels, draw(st.permutations(range(1, n + 1)))))
        scores.append([float(s) for s in draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))])
    propensities = np.array([1.0, *draw(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5))])
    return lists, scores, propensities


@given(logged(), st.integers(1, 6))
def test_against_the_slow_sum(case: tuple[list[RankingList], list[list[float]], np.ndarray], k: int) -> None:
    lists, scores, propensities = case
    over = under = 0.0
    for ranking, own in zip(lists, scores):
        orders = [sorted(range(len(own)), key=lambda i: (-own[i], i))]
        if len(set(own)) == 1:  # nothing was ranked
            orders = list(permutations(range(len(own))))
        for i, (label, place) in enumerate(zip(ranking.labels or (), ranking.positions or ())):
            gain = (2**label - 1) * min(1 / propensities[min(place, len(propensities)) - 1], 5.0)
            ranks = [order.index(i) + 1 for order in orders]
            over += gain * sum((rank <= k) / log2(rank + 1) for rank in ranks) / len(orders)
            under += gain
    found = snips_dcg(scores, lists, propensities, k=k, clip=5.0)
    if under == 0:
        assert np.isnan(found.estimate)
    else:
        assert found.estimate == pytest.approx(over / under)
        assert 0 <= found.estimate <= 1
        assert found.weights.sum() == pytest.approx(under)


def test_the_scale_of_propensities_does_not_matter() -> None:
    lists, scores = [shown([1, 0, 3], [2, 1, 3]), shown([0, 2], [1, 2])], [[3.0, 2.0, 1.0], [1.0, 2.0]]
    propensities = np.array([1.0, 0.5, 0.25])
    whole, half = (snips_dcg(scores, lists, p, clip=1000).estimate for p in (propensities, propensities / 2))
    assert whole == pytest.approx(half)


def test_clipping_is_counted() -> None:
    lists = [shown([1, 1, 0], [1, 2, 3])]
    found = snips_dcg([[1.0, 2.0, 3.0]], lists, np.array([1.0, 0.1]), clip=4.0)
    assert (found.clipped, found.weights[0]) == (1, 5.0)


def test_lists_without_a_click_have_no_say() -> None:
    lists, scores = [shown([1, 0], [1, 2]), shown([0, 0], [1, 2])], [[2.0, 1.0]] * 2
    found = snips_dcg(scores, lists, ONES)
    assert np.isnan(found.values[1])
    assert found.estimate == 1.0
    silent = snips_dcg(scores[1:], lists[1:], ONES)
    assert np.isnan(silent.estimate)
    assert np.isnan(silent.interval(resample(1, 10, 0))).all()


def test_what_cannot_be_used_is_refused() -> None:
    good = shown([1, 0], [1, 2])
    with pytest.raises(InputError, match="list a, field positions: missing"):
        snips_dcg([[1.0, 2.0]], [good.model_copy(update={"positions": None})], ONES)
    with pytest.raises(InputError, match=r"clip 0\.5; both must be at least 1"):
        snips_dcg([[1.0, 2.0]], [good], ONES, clip=0.5)
    with pytest.raises(ValueError, match="needs 2 finite scores"):
        snips_dcg([[1.0, float("nan")]], [good], ONES)


class TestOnTheSimulator:
    """The same 1500 lists twice: dear products first for shoppers who look at the top, and looked at whole."""

    def worths(self) -> dict[str, tuple[float, float, float, float, float]]:
        """By order: the truth, the naive measure, the estimate, and the bounds of its 99.9 % interval."""
        config = MarketplaceConfig(
            seed=7, items_per_category=30, train_lists=0, valid_lists=0, test_lists=1500, lists_per_shopper=1,
            candidates=10, history_min=3, history_max=6, promotion=1.0, position_bias=1.0,
        )  # fmt: skip
        data = simulate(config)
        lists, whole = data.lists["test"], simulate(replace(config, position_bias=0.0)).lists["test"]
        assert [r.candidates for r in lists] == [r.candidates for r in whole]
        rng = np.random.default_rng(0)
        orders = {
            "true utility": [r.utility or () for r in lists],
            "first stage": [-np.arange(10.0) for _ in lists],
            "reversed": [np.arange(10.0) for _ in lists],
            "as shown": [-np.array(r.positions, dtype=float) for r in lists],
            "cheapest first": [-np.array([data.items[c].price or 0 for c in r.candidates]) for r in lists],
            "random": [rng.random(10) for _ in lists],
        }
        propensities = np.arange(1, 11.0) ** -1.0
        counts = resample(len(lists), 400, seed=0)
        found = {}
        for name, scores in orders.items():
            estimate = snips_dcg(scores, lists, propensities, k=5)
            mean, low, high = estimate.interval(counts, confidence=0.999)
            truth, plain = (snips_dcg(scores, some, ONES, k=5).estimate for some in (whole, lists))
            assert mean == estimate.estimate
            found[name] = (truth, plain, mean, low, high)
        return found

    def test_the_estimate_is_near_the_truth_where_clicks_mislead(self) -> None:
        found = self.worths()
        for name, (truth, _, estimate, low, high) in found.items():
            assert low < truth < high, name
            assert abs(estimate - truth) < 0.04, name
        for name in ("first stage", "reversed", "as shown", "cheapest first"):
            truth, plain, estimate, _, _ = found[name]
            assert abs(plain - truth) > 0.1, f"{name}: clicks alone are clearly wrong"
            assert abs(estimate - truth) < abs(plain - truth) / 4, name
        truths, plains, estimates, _, _ = zip(*found.values())
        assert np.abs(np.subtract(estimates, truths)).mean() < np.abs(np.subtract(plains, truths)).mean() / 4
        cheap, top = found["cheapest first"], found["as shown"]
        assert cheap[0] > top[0], "cheapest first is truly better than what was shown"
        assert cheap[1] < top[1], "clicks alone say the contrary"
        assert cheap[2] > top[2], "the estimate does not"

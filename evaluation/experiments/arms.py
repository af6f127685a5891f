"""A/B: how often lists of each arm had the outcome, and whether an arm differs from the control.

    found = compare_arms(successes, lists, arms, control=0, effect=0.05)
    found.rates[0].rate, found.differences[0].p, found.shoppers_per_arm

Shoppers were assigned, so shoppers are what is independent: the rate of an arm is a ratio of two sums over its
shoppers, and its variance is that of the ratio (the delta method; Deng, Knoblich and Lu, "Applying the delta method in
metric analytics", KDD 2018, equation 4), with as many degrees of freedom as the smaller arm gives. Counting lists as if
they were independent would find differences that are not there as soon as shoppers have several lists. A shopper is
weighed against the arm without them (the jackknife), so that a robot with most of an arm's lists makes no difference
sure: as a part of the rate, it would be too near to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from reshelf.metrics.bootstrap import CONFIDENCE, Interval

POWER = 0.9
"""How likely an effect of the size looked for is found with as many shoppers as are computed."""
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ArmRate:
    """Of one arm."""

    shoppers: int
    lists: int
    rate: Interval
    """Share of lists with the outcome."""
    deviation: float
    """Standard deviation of one shopper's part in it: the rate's standard error is `deviation / sqrt(shoppers)`."""

    @property
    def variance(self) -> float:
        """Of the rate."""
        return self.deviation**2 / self.shoppers


@dataclass(frozen=True)
class Difference:
    """Of an arm's rate from the control's."""

    arm: int
    absolute: Interval
    relative: Interval
    """(rate - control's) / control's; NaN where that is 0."""
    p: float
    """Two-sided, of no difference; of several arms multiplied by Holm's method."""


@dataclass(frozen=True)
class Comparison:
    """All arms."""

    rates: list[ArmRate]
    differences: list[Difference]
    """Of every arm but the control."""
    shoppers_per_arm: int | None
    """Needed to find the effect with a power of 0.9 at p < 0.05; None where nothing varies yet."""


def compare_arms(successes: Int64, lists: Int64, arms: Int64, control: int, effect: float) -> Comparison:
    """Compare arms.

    Args:
        successes: int [shoppers], lists of each that had the outcome.
        lists: int [shoppers], lists of each.
        arms: int [shoppers], arm of each, from 0; every arm has two shoppers at least.
        control: what the others are compared with.
        effect: smallest relative change of the rate that is worth finding.

    Examples:
        >>> lists, arms = np.ones(2000, dtype=int), np.repeat([0, 1], 1000)
        >>> found = compare_arms((np.arange(2000) % 1000 < 100 + 60 * arms).astype(int), lists, arms, 0, 0.3)
        >>> round(found.differences[0].absolute.mean, 3), found.differences[0].p < 0.001, found.shoppers_per_arm
        (0.06, True, 2108)
    """
    rates = [_rate(successes[arms == arm], lists[arms == arm]) for arm in range(int(arms.max()) + 1)]
    base = rates[control]
    others = [arm for arm in range(len(rates)) if arm != control]
    ps = holm([_p(rates[arm], base) for arm in others])
    differences = [
        Difference(arm, _absolute(rates[arm], base), _relative(rates[arm], base), p)
        for arm, p in zip(others, ps, strict=True)
    ]
    needed = None
    if base.deviation > 0 and base.rate.mean > 0:
        z = norm.isf((1 - CONFIDENCE) / 2) + norm.ppf(POWER)
        needed = int(np.ceil(2 * (z * base.deviation / (effect * base.rate.mean)) ** 2))
    return Comparison(rates, differences, needed)


def holm(ps: list[float]) -> list[float]:
    """p-values of several tests, so that any false finding among them is as rare as of one (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, k in enumerate(np.argsort(ps, kind="stable").tolist()):
        highest = max(highest, min(1.0, ps[k] * (len(ps) - rank)))
        adjusted[k] = highest
    return adjusted


def _rate(successes: Int64, lists: Int64) -> ArmRate:
    rate = successes.sum() / lists.sum()
    others = 1 - lists / lists.sum()
    deviation = float(np.std((successes - rate * lists) / lists.mean() / others, ddof=1))
    return ArmRate(len(lists), int(lists.sum()), _around(rate, deviation**2 / len(lists), len(lists)), deviation)


def _around(value: float, variance: float, shoppers: int) -> Interval:
    half = t.isf((1 - CONFIDENCE) / 2, shoppers - 1) * np.sqrt(variance)
    return Interval(float(value), float(value - half), float(value + half))


def _absolute(rate: ArmRate, base: ArmRate) -> Interval:
    smaller = min(rate.shoppers, base.shoppers)
    return _around(rate.rate.mean - base.rate.mean, rate.variance + base.variance, smaller)


def _relative(rate: ArmRate, base: ArmRate) -> Interval:
    """Of the logarithm of the ratio, whose interval does not reach below -100 %."""
    if base.rate.mean == 0 or rate.rate.mean == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    variance = rate.variance / rate.rate.mean**2 + base.variance / base.rate.mean**2
    ratio = np.log(rate.rate.mean / base.rate.mean)
    return Interval(*np.expm1(_around(ratio, variance, min(rate.shoppers, base.shoppers))).tolist())


def _p(rate: ArmRate, base: ArmRate) -> float:
    error = np.sqrt(rate.variance + base.variance)
    if error == 0:
        return 1.0
    smaller = min(rate.shoppers, base.shoppers)
    return float(2 * t.sf(abs(rate.rate.mean - base.rate.mean) / error, smaller - 1))

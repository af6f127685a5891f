"""What a new order would be worth, from clicks on the order that was shown: self-normalised inverse propensities.

    propensities = read_propensities(Path("propensities.json"))
    worth = snips_dcg(scores, lists, propensities, k=10)
    worth.estimate                                          # 0.47
    worth.interval(resample(len(lists), 1000, seed=0))      # Interval(mean=0.47, low=0.45, high=0.49)

A click at a place that one shopper in five examines stands for five shoppers who would have clicked, so it counts
1 / p(place) (Joachims, Swaminathan and Schnabel, WSDM 2017; Agarwal et al., "A general framework for counterfactual
learning-to-rank", SIGIR 2019, equation 5). Dividing by the sum of these weights (Swaminathan and Joachims, "The
self-normalized estimator for counterfactual learning", NeurIPS 2015) makes the estimate independent of the scale of p
and keeps it in [0, 1]:

    Σ_lists Σ_clicked g / p(place shown) · d(rank in the new order)  /  Σ_lists Σ_clicked g / p(place shown)

with gain g = 2^label - 1 and discount d(rank) = 1 / log2(rank + 1) up to rank k, 0 after it. It is the discount that a
unit of gain meets on average: 1 where all of it would come first. It is not nDCG, whose ideal order cannot be known
from biased clicks list by list. With p = 1 everywhere it is the plain measure of the labels as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.metrics.bootstrap import CONFIDENCE, Interval, interval
from reshelf.metrics.ndcg import exponential_gains, mean_discount

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counterfactual:
    """A weighted mean over lists."""

    values: Float64
    """[n_lists] in [0, 1]: the list's own estimate; NaN for a list without a click."""
    weights: Float64
    """[n_lists]: its gain corrected for places; 0 for a list without a click."""
    clipped: int
    """Clicks whose weight was cut down to `clip`."""

    @property
    def estimate(self) -> float:
        """Over all lists; NaN where no list has a click."""
        total = self.weights.sum()
        return float(np.nansum(self.values * self.weights) / total) if total > 0 else float("nan")

    def gain_over(self, other: Counterfactual, resamples: npt.NDArray[np.integer]) -> Interval:
        """How much higher this order's estimate is than another's on the same lists, paired."""
        return interval(self.values - other.values, resamples, list_weights=self.weights)

    def interval(self, resamples: npt.NDArray[np.integer], confidence: float = CONFIDENCE) -> Interval:
        """Percentile bootstrap, numerator and denominator resampled together.

        Args:
            resamples: int [resamples, n_lists] from `bootstrap.resample`.
        """
        return interval(self.values, resamples, confidence, self.weights)


def check_shown(lists: Sequence[RankingList]) -> None:
    """Raises InputError where a list has no labels, or does not say where its candidates were shown."""
    for ranking in lists:
        if ranking.labels is None or ranking.positions is None:
            what = "labels" if ranking.labels is None else "positions"
            raise InputError(f"list {ranking.list_id}, field {what}: missing; counterfactual estimates need both")


def snips_dcg(
    scores: Sequence[Sequence[float] | npt.NDArray[np.floating]],
    lists: Sequence[RankingList],
    propensities: Float64,
    k: int = 10,
    clip: float = 20.0,
) -> Counterfactual:
    """Self-normalised inverse-propensity estimate of the discount that gain meets in the order of `scores`.

    Args:
        scores: of every list, one per candidate in first-stage order, higher is better; ties keep that order. The
            value of a list whose scores are all equal is the mean over all its orders.
        lists: with labels and the places shown.
        propensities: float64 [places], places beyond the last are like the last.
        k: how many places of the new order count.
        clip: most that one click may count; less noise, and a bias towards the order that was shown.

    Raises:
        InputError: a list has no labels or no places, or `k` or `clip` is below 1.
        ValueError: lists and scores are not parallel, or a score is NaN or infinite.
    """
    if k < 1 or clip < 1:
        raise InputError(f"k is {k} and clip {clip}; both must be at least 1")
    check_shown(lists)
    inverse = 1 / np.asarray(propensities, dtype=np.float64)
    values, weights, clipped = np.full(len(lists), np.nan), np.zeros(len(lists)), 0
    for i, (own, ranking) in enumerate(zip(scores, lists, strict=True)):
        if len(own) != len(ranking.candidates) or not np.isfinite(own).all():
            raise ValueError(f"list {ranking.list_id} needs {len(ranking.candidates)} finite scores")
        gains = exponential_gains(ranking.labels or ())
        each = inverse[np.minimum(np.array(ranking.positions), len(inverse)) - 1]
        clipped += int(((each > clip) & (gains > 0)).sum())
        values[i], weights[i] = mean_discount(own, gains * np.minimum(each, clip), k)
    return Counterfactual(values, weights, clipped)

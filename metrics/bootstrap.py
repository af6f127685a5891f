"""How sure a mean is: percentile bootstrap over lists, for one system, for the difference of two, and for AUC.

    weights = resample(n_lists=len(values), resamples=1000, seed=0)
    interval(values, weights)                       # Interval(mean=0.41, low=0.39, high=0.43)
    interval(finetuned - first_stage, weights)      # paired: both systems see the same resampled lists

A resample is a row of counts (how often each list was drawn), so a mean over it is one matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
_AREA_ROWS, _FEWEST = 40_000_000, 200
"""Rows that all resamples of an AUC look at together, and the fewest resamples."""


class Interval(NamedTuple):
    """A mean with the bounds of its interval. All NaN where no list has a value."""

    mean: float
    low: float
    high: float


def resample(n_lists: int, resamples: int, seed: int) -> np.ndarray:
    """Draw `n_lists` lists with replacement, `resamples` times.

    Returns:
        uint16 [resamples, n_lists]: how often each list was drawn; every row adds up to `n_lists`.
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, n_lists), dtype=np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(n_lists, size=n_lists), minlength=n_lists)
    return weights


def interval(
    values: np.ndarray,
    weights: np.ndarray,
    confidence: float = CONFIDENCE,
    list_weights: np.ndarray | None = None,
) -> Interval:
    """Percentile interval of the mean of per-list values (Efron and Tibshirani, "An Introduction to the Bootstrap",
    1993, section 13.3).

    Use it for the mean of any metric over lists. It assumes that lists are independent of one another; where a metric
    is a mean over shoppers, pass values per shopper.

    Args:
        values: float [n_lists]; NaN for lists that have no value (they count in no resample). For a paired
            difference pass the difference: it is NaN wherever either system has no value.
        weights: int [resamples, n_lists] from `resample`.
        confidence: share of the resampled means between `low` and `high`.
        list_weights: float [n_lists], for a weighted mean; numerator and denominator are resampled together.

    Examples:
        >>> found = interval(np.array([0.2, 0.4, 0.6, 0.8]), resample(n_lists=4, resamples=1000, seed=0))
        >>> found.low < found.mean == 0.5 < found.high
        True
    """
    counted = np.where(np.isnan(values), 0.0, 1.0 if list_weights is None else list_weights)
    if not counted.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    filled = np.nan_to_num(values) * counted
    # In pieces: as floats all resamples at once would take four times the memory of the counts.
    sums = np.concatenate([rows.astype(np.float64) @ filled for rows in np.array_split(weights, _pieces(weights))])
    totals = np.concatenate([rows @ counted for rows in np.array_split(weights, _pieces(weights))])
    means = sums[totals > 0] / totals[totals > 0]
    return Interval(float(filled.sum() / counted.sum()), *_bounds(means, confidence))


def auc_interval(scores: np.ndarray, relevant: np.ndarray, rows_of: np.ndarray, weights: np.ndarray) -> Interval:
    """Percentile interval of the AUC over all rows, lists resampled whole.

    The rows are sorted once; a resample only changes how much each row weighs. Of many rows only the first some
    hundred resamples are used: their interval is narrow, and each takes a pass over all of them.

    Args:
        scores: float [N], one per row (list and candidate).
        relevant: bool [N].
        rows_of: int [N], index of the list a row belongs to.
        weights: int [resamples, n_lists] from `resample`.
    """
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    if not len(scores) or relevant.all() or not relevant.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    positive, lists = relevant[order], rows_of[order]

    def area(list_weights: np.ndarray) -> float:
        row_weights = list_weights[lists].astype(np.float64)
        up = np.add.reduceat(np.where(positive, row_weights, 0.0), ties)
        down = np.add.reduceat(np.where(positive, 0.0, row_weights), ties)
        pairs = up.sum() * down.sum()
        below = np.cumsum(down) - down
        return float((up * (below + down / 2)).sum() / pairs) if pairs else float("nan")

    enough = max(_FEWEST, _AREA_ROWS // len(scores))
    resampled = np.array([area(row) for row in weights[:enough]])
    whole = area(np.ones(weights.shape[1]))
    return Interval(whole, *_bounds(resampled[~np.isnan(resampled)], CONFIDENCE))


def _pieces(weights: np.ndarray) -> int:
    return 1 + weights.size // 5_000_000


def _bounds(resampled: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return float(low), float(high)

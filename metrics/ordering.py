"""How scores become an order: the one rule of the reranker, the service, batch jobs, training and every metric.

Best first; equal scores keep first-stage order, in which candidates are always handed over. A list whose scores do not
differ at all was not ranked: metrics give it what a random order is worth, not what the first stage's is (`unranked`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Scores = Sequence[float] | np.ndarray


def best_first(scores: Scores) -> np.ndarray:
    """Indices of the candidates, best first.

    The sort is stable: equal scores keep first-stage order. +inf stands first and -inf last, as numbers do, so -inf
    can fill up lists of unlike lengths. NaN has no place and is refused.

    Args:
        scores: float [K] in first-stage order, higher is better; or [..., K], lists along the last axis.

    Returns:
        int64, of the same shape.

    Raises:
        ValueError: a score is NaN.

    Examples:
        >>> best_first([0.5, 0.9, 0.5]).tolist()
        [1, 0, 2]
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError(f"score {int(np.argmax(np.isnan(values)))} is NaN; a list with a NaN score has no order")
    return np.argsort(-values, axis=-1, kind="stable")


def ranks(scores: Scores) -> np.ndarray:
    """Rank of each candidate, 1 is best: the inverse of `best_first`, int64 of the shape of `scores`.

    Examples:
        >>> ranks([0.5, 0.9, 0.5]).tolist()
        [2, 1, 3]
    """
    order = best_first(scores)
    result = np.empty_like(order)
    np.put_along_axis(result, order, np.arange(1, order.shape[-1] + 1), axis=-1)
    return result


def unranked(scores: Scores) -> bool:
    """Whether a list has several candidates and one score for all of them, so that nothing was ranked.

    A model that has collapsed to a constant would otherwise be measured as the first stage. `ndcg`, `reciprocal_rank`
    and `recall` of such a list are the mean over all its orders; in `auc` equal scores count one half anyway. Where
    lists are counted, report how many were unranked beside the mean.

    Args:
        scores: float [K].

    Examples:
        >>> unranked([0.5, 0.5, 0.5]), unranked([0.5, 0.5, 0.4]), unranked([0.5])
        (True, False, False)
    """
    values = np.asarray(scores, dtype=np.float64)
    return len(values) > 1 and bool((values == values[0]).all())


def relevant_of(labels: Sequence[float] | np.ndarray, relevant_from: float, values: np.ndarray) -> np.ndarray:
    """Which candidates of one list are relevant, bool [K].

    Args:
        values: the scores [K] that these are the labels of.

    Raises:
        ValueError: there are more or fewer labels.
    """
    relevant = np.asarray(labels) >= relevant_from
    if relevant.shape != values.shape:
        raise ValueError(f"there are {len(values)} scores for labels of shape {relevant.shape}")
    return relevant


def finite_scores(scores: Scores) -> np.ndarray:
    """The scores of one list as float64 [K].

    Raises:
        ValueError: there are none, or one is NaN or infinite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"scores of one list must be a non-empty sequence of numbers, not of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"score {int(np.argmin(np.isfinite(values)))} is NaN or infinite")
    return values

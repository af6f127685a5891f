"""Recall@k: how much of what is wanted a shopper sees without scrolling on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reshelf.metrics.ordering import Scores, finite_scores, ranks, relevant_of, unranked


def recall(scores: Scores, labels: Sequence[int] | np.ndarray, k: int = 10, relevant_from: int = 1) -> float:
    """Share of a list's relevant candidates among its first k. With one relevant candidate it is the hit rate.

    Use it for the cut that a page or a next stage makes; it does not see the order within the first k, `ndcg` does.

    Args:
        scores: float [K] in first-stage order, higher is better; equal scores keep that order. Where all are equal
            the list is unranked (`ordering.unranked`) and gets the mean over all its orders.
        labels: int [K], graded.
        k: how many ranks count.
        relevant_from: the smallest label that counts as relevant.

    Returns:
        A number in [0, 1]; NaN where no candidate is relevant.

    Raises:
        ValueError: scores are not K finite numbers, or labels not K.

    Examples:
        >>> recall([0.2, 0.9, 0.5], [3, 3, 0], k=1, relevant_from=3)
        0.5
    """
    values = finite_scores(scores)
    relevant = relevant_of(labels, relevant_from, values)
    if not relevant.any():
        return float("nan")
    if unranked(values):
        return min(k, len(values)) / len(values)
    return float((ranks(values)[relevant] <= k).mean())

"""Average precision: how early everything a shopper wants stands. Its mean over lists is MAP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reshelf.metrics.ordering import Scores, finite_scores, ranks, relevant_of, unranked


def average_precision(scores: Scores, labels: Sequence[int] | np.ndarray, k: int = 5, relevant_from: int = 1) -> float:
    """AP@k of one list: Σ_(relevant at rank ≤ k) precision at that rank, over min(relevant candidates, k).

    The cut form that search competitions measure by (Kaggle's MAP@k). Use it to compare with their numbers; with one
    relevant candidate it is the reciprocal rank cut at k.

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
        >>> average_precision([0.2, 0.9, 0.5], [3, 0, 3], k=2, relevant_from=3)
        0.25
    """
    values = finite_scores(scores)
    relevant = relevant_of(labels, relevant_from, values)
    found, candidates = int(relevant.sum()), len(values)
    if not found:
        return float("nan")
    rank = np.arange(1, min(k, candidates) + 1)
    if unranked(values):
        # A relevant candidate stands at a rank with chance found / candidates; of those above it, each with
        # (found - 1) / (candidates - 1).
        precisions = (1 + (rank - 1) * (found - 1) / (candidates - 1)) / rank * found / candidates
    else:
        at = np.sort(ranks(values)[relevant])
        precisions = (np.arange(1, found + 1) / at)[at <= k]
    return float(precisions.sum() / min(found, k))

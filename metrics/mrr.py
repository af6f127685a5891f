"""Reciprocal rank: how far down a shopper looks for the first thing they want. Its mean over lists is MRR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reshelf.metrics.ordering import Scores, finite_scores, ranks, relevant_of, unranked


def reciprocal_rank(scores: Scores, labels: Sequence[int] | np.ndarray, relevant_from: int = 1) -> float:
    """1 / rank of the first relevant candidate of one list, over the whole list (Voorhees, TREC-8 1999).

    Use it where one product is looked for, such as the one that was bought; `ndcg` where several are, or where
    relevance is graded.

    Args:
        scores: float [K] in first-stage order, higher is better; equal scores keep that order. Where all are equal
            the list is unranked (`ordering.unranked`) and gets the mean over all its orders.
        labels: int [K], graded.
        relevant_from: the smallest label that counts as relevant.

    Returns:
        A number in (0, 1]; NaN where no candidate is relevant.

    Raises:
        ValueError: scores are not K finite numbers, or labels not K.

    Examples:
        >>> reciprocal_rank([0.2, 0.9, 0.5], [3, 0, 0], relevant_from=3)
        0.3333333333333333
    """
    values = finite_scores(scores)
    relevant = relevant_of(labels, relevant_from, values)
    if not relevant.any():
        return float("nan")
    if unranked(values):
        return _mean_over_orders(len(values), int(relevant.sum()))
    return float(1.0 / ranks(values)[relevant].min())


def _mean_over_orders(candidates: int, relevant: int) -> float:
    """Mean of 1 / first rank where every place of the `relevant` ones among the `candidates` is equally likely."""
    rank = np.arange(1, candidates - relevant + 2)
    # P(first at r) = C(n − r, m − 1) / C(n, m), from one rank to the next without the binomials.
    steps = (candidates - rank[:-1] - relevant + 1) / (candidates - rank[:-1])
    chances = relevant / candidates * np.cumprod(np.concatenate([[1.0], steps]))
    return float((chances / rank).sum())

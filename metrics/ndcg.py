"""nDCG@k: how much of the gain stands near the top, against the best order of the same list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reshelf.metrics.ordering import Scores, best_first, finite_scores, ranks, unranked


def exponential_gains(labels: Sequence[float] | np.ndarray) -> np.ndarray:
    """Graded labels as nDCG gains, 2^label − 1 (Burges et al., ICML 2005), float64 of the same shape.

    Examples:
        >>> exponential_gains([0, 3, 1]).tolist()
        [0.0, 7.0, 1.0]
    """
    return np.exp2(np.asarray(labels, dtype=np.float64)) - 1.0


def discounts(ranks: Sequence[int] | np.ndarray) -> np.ndarray:
    """What a gain at each rank, 1 is best, is multiplied by: 1 / log₂(rank + 1), float64 of the same shape.

    Examples:
        >>> discounts([1, 3]).tolist()
        [1.0, 0.5]
    """
    return 1.0 / np.log2(np.asarray(ranks, dtype=np.float64) + 1.0)


def ndcg(scores: Scores, gains: Sequence[float] | np.ndarray, k: int = 10) -> float:
    """nDCG@k of one list: Σ_(rank ≤ k) gain / log₂(rank + 1), over the same sum of the best order.

    Järvelin and Kekäläinen (TOIS 2002). Use it wherever relevance is graded and the top counts most; training selects
    checkpoints by it. Pass `exponential_gains(labels)` for graded labels, and numbers that already are gains, such
    as the simulator's utility, as they are.

    Args:
        scores: float [K] in first-stage order, higher is better; equal scores keep that order. Where all are equal
            the list is unranked (`ordering.unranked`) and gets the mean over all its orders.
        gains: float [K], not below 0.
        k: how many ranks count.

    Returns:
        A number in [0, 1]; NaN where no gain is above 0, for such a list has no best order.

    Raises:
        ValueError: scores or gains are not K finite numbers, or a gain is below 0.

    Examples:
        >>> ndcg([0.2, 0.9], exponential_gains([0, 3]))
        1.0
        >>> round(ndcg([0.9, 0.2], exponential_gains([0, 3])), 3)
        0.631
    """
    values, wanted = finite_scores(scores), np.asarray(gains, dtype=np.float64)
    if wanted.shape != values.shape:
        raise ValueError(f"there are {len(values)} scores for gains of shape {wanted.shape}")
    if wanted.min() < 0 or not np.isfinite(wanted).all():
        raise ValueError("gains must be finite and not below zero")
    return float(ndcg_of_lists(values[None], wanted[None], np.ones((1, len(values)), dtype=bool), k)[0])


def mean_discount(scores: Scores, gains: Sequence[float] | np.ndarray, k: int = 10) -> tuple[float, float]:
    """The discount that a unit of one list's gain meets, Σ_(rank ≤ k) gain / log₂(rank + 1) / Σ gain, and Σ gain.

    Use it where no best order can be known list by list, as from clicks weighted by inverse propensity: the mean over
    lists, weighted by their gain, is the self-normalised estimate of `evaluation.counterfactual`.

    Args:
        scores: float [K] in first-stage order, as for `ndcg`; an unranked list gets the mean over all its orders.
        gains: float [K], not below 0.
        k: how many ranks count.

    Returns:
        A number in [0, 1], NaN where no gain is above 0, and the gain.

    Examples:
        >>> mean_discount([0.2, 0.9], [0.0, 3.0]), mean_discount([0.9, 0.2, 0.1], [0.0, 0.0, 2.0])
        ((1.0, 3.0), (0.5, 2.0))
    """
    rank, wanted = ranks(scores), np.asarray(gains, dtype=np.float64)
    discount = np.where(rank <= k, discounts(rank), 0.0)
    if unranked(scores):  # any candidate stands at any rank equally often
        discount = np.full(len(rank), discount.mean())
    total = float(wanted.sum())
    return (float(wanted @ discount) / total if total > 0 else float("nan")), total


def ndcg_of_lists(scores: np.ndarray, gains: np.ndarray, mask: np.ndarray, k: int = 10) -> np.ndarray:
    """`ndcg` of many lists at once, for what measures after every step of training.

    Args:
        scores: float [N, K], finite where `mask` is True.
        gains: float [N, K], not below 0.
        mask: bool [N, K], True for candidates, False for what fills up shorter lists.
        k: how many ranks count.

    Returns:
        float64 [N], NaN for lists without a gain.

    Examples:
        >>> scores, gains = np.array([[0.9, 0.2, 0.0], [1.0, 1.0, 0.0]]), np.array([[0.0, 7.0, 0.0], [7.0, 0.0, 0.0]])
        >>> mask = np.array([[True, True, True], [True, True, False]])
        >>> ndcg_of_lists(scores, gains, mask).round(3).tolist()  # the second list is unranked
        [0.631, 0.815]
    """
    gains = np.where(mask, gains, 0.0)
    discount = discounts(np.arange(1, min(k, scores.shape[1]) + 1))
    best = np.sort(gains, axis=1)[:, ::-1][:, : len(discount)] @ discount
    order = best_first(np.where(mask, scores, -np.inf))[:, : len(discount)]
    found = np.take_along_axis(gains, order, axis=1) @ discount
    # Where all scores are equal, any candidate stands at any of the list's ranks equally often.
    size = mask.sum(1)
    highest, lowest = np.where(mask, scores, -np.inf).max(1), np.where(mask, scores, np.inf).min(1)
    over_ranks = np.cumsum(discount)[np.minimum(size, len(discount)) - 1]
    found = np.where((highest == lowest) & (size > 1), gains.sum(1) / size * over_ranks, found)
    with np.errstate(invalid="ignore"):
        # A rounding step above 1 is 1.
        return np.where(best > 0, np.minimum(found / best, 1.0), np.nan)

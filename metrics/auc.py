"""AUC: how often something wanted scores above something that is not, over rows from any lists; UAUC: per shopper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from reshelf.metrics.ordering import Scores


def auc(scores: Scores, labels: Sequence[int] | np.ndarray, relevant_from: int = 1) -> float:
    """Area under the ROC curve of rows (scikit-learn's `roc_auc_score`).

    Rows are compared with one another also across lists and shoppers, so scores must mean the same everywhere: use it
    for pointwise data, where lists hold one candidate each, and beside a pointwise loss (`bce`). Equal scores count
    one half: across lists there is no first-stage order to break a tie with.

    Args:
        scores: float [N], higher is better.
        labels: int [N], graded.
        relevant_from: the smallest label that counts as relevant.

    Returns:
        A number in [0, 1]; NaN where only one of the two labels occurs.

    Examples:
        >>> auc([0.2, 0.9, 0.2], [0, 3, 3], relevant_from=3)
        0.75
    """
    relevant = np.asarray(labels) >= relevant_from
    if relevant.all() or not relevant.any():
        return float("nan")
    return float(roc_auc_score(relevant, np.asarray(scores, dtype=np.float64)))


def auc_error(auc: float, positive: int, negative: int) -> float:
    """Standard error of an AUC over so many independent rows (Hanley and McNeil, "The meaning and use of the area under
    a receiver operating characteristic (ROC) curve", Radiology 143, 1982, equation 1).

    Examples:
        >>> round(auc_error(0.75, positive=50, negative=50), 4)
        0.0488
    """
    two_positive, two_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (positive - 1) * (two_positive - auc**2) + (negative - 1) * (two_negative - auc**2)
    return float((variance / (positive * negative)) ** 0.5)


def auc_by_user(
    scores: Sequence[Scores],
    labels: Sequence[Sequence[int] | np.ndarray],
    users: Sequence[str],
    relevant_from: int = 1,
) -> dict[str, float]:
    """AUC of each user's own rows, from all lists of that user. Its unweighted mean over users is UAUC (Zhu et al.,
    "Optimized Cost per Click in Taobao Display Advertising", KDD 2017, weight it by impressions as GAUC).

    Use it for pointwise data with several rows per shopper, where AUC also rewards knowing who buys much.

    Args:
        scores: one float [K] per list, higher is better.
        labels: one int [K] per list, graded.
        users: the user id of each list.
        relevant_from: the smallest label that counts as relevant.

    Returns:
        User id -> AUC, in order of first appearance; NaN where a user has only one of the two labels.

    Examples:
        >>> auc_by_user([[0.2], [0.9], [0.1]], [[0], [3], [3]], ["u1", "u1", "u2"], relevant_from=3)
        {'u1': 1.0, 'u2': nan}
    """
    rows: Mapping[str, list[int]] = defaultdict(list)
    for n, user in enumerate(users):
        rows[user].append(n)
    return {
        user: auc(np.concatenate([scores[n] for n in own]), np.concatenate([labels[n] for n in own]), relevant_from)
        for user, own in rows.items()
    }

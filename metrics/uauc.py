"""UAUC, the unweighted mean of each user's AUC, as a Hugging Face `evaluate` metric over lists.

    metric = evaluate.load("metrics/uauc.py")          # or Uauc(keep_in_memory=True)
    metric.compute(predictions=[[0.2], [0.9]], references=[[0], [3]], users=["u1", "u1"], relevant_from=3)
    # {"uauc": 1.0, "per_user": {"u1": 1.0}, "per_list": [1.0, 1.0], "skipped": 0}

All rows of a user, from all of that user's lists, go into one AUC (scikit-learn's `roc_auc_score`, equal scores count
one half). Users with only one of the two labels are left out and counted.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import evaluate
import numpy as np

from reshelf.metrics.auc import auc_of_rows
from reshelf.metrics.ordering import lists_info, mean_or_none

DESCRIPTION = "Unweighted mean over users of the area under the ROC curve of the user's own rows."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, higher is better.
    references: one sequence of graded labels [K] per list.
    users: the user id of each list.
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    uauc: mean over users with both labels (None without any); per_user: AUC by user id, NaN where left out;
    per_list: the value of each list's user; skipped: users left out.
"""


class Uauc(evaluate.Metric):
    """Mean of the users' own AUC."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS, users="string")

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[int]],
        users: list[str],
        relevant_from: int = 1,
    ) -> dict[str, Any]:
        scores: dict[str, list[float]] = defaultdict(list)
        labels: dict[str, list[int]] = defaultdict(list)
        for user, some_scores, some_labels in zip(users, predictions, references, strict=True):
            scores[user].extend(some_scores)
            labels[user].extend(some_labels)
        per_user = {user: auc_of_rows(scores[user], labels[user], relevant_from) for user in scores}
        return {
            "uauc": mean_or_none(list(per_user.values())),
            "per_user": per_user,
            "per_list": [per_user[user] for user in users],
            "skipped": int(np.isnan(list(per_user.values())).sum()),
        }

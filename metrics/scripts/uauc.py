"""UAUC, the unweighted mean of each user's AUC, as a Hugging Face `evaluate` metric.

metric = evaluate.load("metrics/scripts/uauc.py")          # or Uauc(keep_in_memory=True)
metric.compute(predictions=[[0.2], [0.9]], references=[[0], [3]], users=["u1", "u1"], relevant_from=3)
# {"uauc": 1.0, "per_user": {"u1": 1.0}, "per_list": [1.0, 1.0], "skipped": 0, "unranked": 0}
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np

from reshelf.metrics.auc import auc_by_user
from reshelf.metrics.scripts.lists import lists_info, mean_or_none, over_lists

DESCRIPTION = "Unweighted mean over users of the area under the ROC curve of the user's own rows."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, higher is better.
    references: one sequence of graded labels [K] per list.
    users: the user id of each list.
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    uauc: mean over users with both labels (None without any); per_user: AUC by user id, NaN where left out;
    per_list: the value of each list's user; skipped: users left out; unranked: lists whose scores are all equal.
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
        per_user = auc_by_user(predictions, references, users, relevant_from)
        values = list(per_user.values())
        return {
            **over_lists("uauc", [per_user[user] for user in users], predictions),
            "uauc": mean_or_none(values),
            "per_user": per_user,
            "skipped": int(np.isnan(values).sum()),
        }

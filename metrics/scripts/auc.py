"""AUC over all rows as a Hugging Face `evaluate` metric.

metric = evaluate.load("metrics/scripts/auc.py")           # or Auc(keep_in_memory=True)
metric.compute(predictions=[[0.2, 0.9], [0.5]], references=[[0, 3], [3]], relevant_from=3)
# {"auc": 1.0, "per_list": [1.0, nan], "skipped": 1, "unranked": 0}
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np

from reshelf.metrics.auc import auc
from reshelf.metrics.scripts.lists import lists_info, mean_or_none, over_lists

DESCRIPTION = "Area under the ROC curve over all rows of all lists; equal scores count one half."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, higher is better.
    references: one sequence of graded labels [K] per list.
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    auc: over all rows (None where only one of the two labels occurs); per_list: AUC within each list, NaN where a
    list has only one of the two labels; skipped: how many those are; unranked: lists whose scores are all equal.
"""


class Auc(evaluate.Metric):
    """AUC over all rows."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS)

    def _compute(
        self, predictions: list[list[float]], references: list[list[int]], relevant_from: int = 1
    ) -> dict[str, Any]:
        per_list = [auc(scores, labels, relevant_from) for scores, labels in zip(predictions, references, strict=True)]
        whole = auc(np.concatenate(predictions), np.concatenate(references), relevant_from)
        return {**over_lists("auc", per_list, predictions), "auc": mean_or_none([whole])}

"""MAP@k as a Hugging Face `evaluate` metric.

metric = evaluate.load("metrics/scripts/map.py")           # or Map(keep_in_memory=True)
metric.compute(predictions=[[0.2, 0.9, 0.5]], references=[[3, 0, 3]], k=2, relevant_from=3)
# {"map@2": 0.25, "per_list": [0.25], "skipped": 0, "unranked": 0}
"""

from __future__ import annotations

from typing import Any

import evaluate

from reshelf.metrics.average_precision import average_precision
from reshelf.metrics.scripts.lists import lists_info, over_lists

DESCRIPTION = "Mean average precision over the first k candidates; ties keep first-stage order."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, candidates in first-stage order, higher is better.
    references: one sequence of graded labels [K] per list.
    k: how many ranks count (default 5).
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    map@k: mean over lists with a relevant candidate (None without any); per_list: one value per list, NaN where
    skipped; skipped: lists without a relevant candidate; unranked: lists whose scores are all equal, measured as the
    mean over all orders.
"""


class Map(evaluate.Metric):
    """Mean average precision over lists."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS)

    def _compute(
        self, predictions: list[list[float]], references: list[list[int]], k: int = 5, relevant_from: int = 1
    ) -> dict[str, Any]:
        per_list = [
            average_precision(scores, labels, k, relevant_from)
            for scores, labels in zip(predictions, references, strict=True)
        ]
        return over_lists(f"map@{k}", per_list, predictions)

"""MRR as a Hugging Face `evaluate` metric.

metric = evaluate.load("metrics/scripts/mrr.py")           # or Mrr(keep_in_memory=True)
metric.compute(predictions=[[0.2, 0.9, 0.5]], references=[[3, 0, 0]], relevant_from=3)
# {"mrr": 0.333…, "per_list": [0.333…], "skipped": 0, "unranked": 0}
"""

from __future__ import annotations

from typing import Any

import evaluate

from reshelf.metrics.mrr import reciprocal_rank
from reshelf.metrics.scripts.lists import lists_info, over_lists

DESCRIPTION = "Mean reciprocal rank of the first relevant candidate; ties keep first-stage order."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, candidates in first-stage order, higher is better.
    references: one sequence of graded labels [K] per list.
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    mrr: mean over lists with a relevant candidate (None without any); per_list: one value per list, NaN where
    skipped; skipped: lists without a relevant candidate; unranked: lists whose scores are all equal, measured as the
    mean over all orders.
"""


class Mrr(evaluate.Metric):
    """Mean reciprocal rank over lists."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS)

    def _compute(
        self, predictions: list[list[float]], references: list[list[int]], relevant_from: int = 1
    ) -> dict[str, Any]:
        per_list = [
            reciprocal_rank(scores, labels, relevant_from)
            for scores, labels in zip(predictions, references, strict=True)
        ]
        return over_lists("mrr", per_list, predictions)

"""nDCG@k as a Hugging Face `evaluate` metric.

metric = evaluate.load("metrics/scripts/ndcg.py")          # or Ndcg(keep_in_memory=True)
metric.compute(predictions=[[0.2, 0.9]], references=[[0, 3]], k=10)
# {"ndcg@10": 1.0, "per_list": [1.0], "skipped": 0, "unranked": 0}
"""

from __future__ import annotations

from typing import Any, Literal

import evaluate

from reshelf.metrics.ndcg import exponential_gains, ndcg
from reshelf.metrics.scripts.lists import lists_info, over_lists

DESCRIPTION = "Normalised discounted cumulative gain of the first k, mean over lists; ties keep first-stage order."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, candidates in first-stage order, higher is better.
    references: one sequence of graded labels or gains [K] per list.
    k: how many ranks count (default 10).
    gain: "exponential" (2 ** label - 1, default) or "linear" (references are gains).
Returns:
    ndcg@k: mean over lists with a gain (None without any); per_list: one value per list, NaN where skipped;
    skipped: lists without a gain; unranked: lists whose scores are all equal, measured as the mean over all orders.
"""


class Ndcg(evaluate.Metric):
    """nDCG@k over lists."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS, references="float64")

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[float]],
        k: int = 10,
        gain: Literal["exponential", "linear"] = "exponential",
    ) -> dict[str, Any]:
        if gain not in ("exponential", "linear"):
            raise ValueError(f"gain is {gain!r}; give 'exponential' or 'linear'")
        per_list = [
            ndcg(scores, exponential_gains(values) if gain == "exponential" else values, k)
            for scores, values in zip(predictions, references, strict=True)
        ]
        return over_lists(f"ndcg@{k}", per_list, predictions)

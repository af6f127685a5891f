"""nDCG@k, as a Hugging Face `evaluate` metric over lists.

    metric = evaluate.load("metrics/ndcg.py")          # or Ndcg(keep_in_memory=True)
    metric.compute(predictions=[[0.2, 0.9]], references=[[0, 3]], k=10)
    # {"ndcg@10": 1.0, "per_list": [1.0], "skipped": 0}

Graded labels gain `2 ** label - 1` (`gain="exponential"`); numbers that already are gains, such as the simulator's
utility, are used as they are (`gain="linear"`). The gain at rank r is divided by log2(r + 1), the sum by the sum of
the best order. The sum itself is torchmetrics'. A list without any gain has no best order: it is skipped (NaN in
`per_list`) and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import evaluate
import numpy as np
import torch
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from reshelf.metrics.ordering import exponential_gains, lists_info, mean_or_none, rank_scores

DESCRIPTION = "Normalised discounted cumulative gain of the first k, mean over lists; ties keep first-stage order."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, candidates in first-stage order, higher is better.
    references: one sequence of graded labels or gains [K] per list.
    k: how many places count (default 10).
    gain: "exponential" (2 ** label - 1, default) or "linear" (references are gains).
Returns:
    ndcg@k: mean over lists with a gain (None without any); per_list: one value per list, NaN where skipped;
    skipped: lists without a gain.
"""


def ndcg_of_list(scores: Sequence[float], gains: Sequence[float] | np.ndarray, k: int) -> float:
    """nDCG@k of one list from its gains [K]; NaN where no gain is above zero."""
    target = torch.as_tensor(np.asarray(gains, dtype=np.float64), dtype=torch.float32)
    if target.min() < 0 or not torch.isfinite(target).all():
        raise ValueError("gains must be finite and not below zero")
    if target.max() <= 0:
        return float("nan")
    # The sums are float32, so that a perfect order can come out a rounding step above 1.
    return min(float(retrieval_normalized_dcg(rank_scores(scores), target, top_k=k)), 1.0)


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
            ndcg_of_list(scores, exponential_gains(values) if gain == "exponential" else values, k)
            for scores, values in zip(predictions, references, strict=True)
        ]
        return {
            f"ndcg@{k}": mean_or_none(per_list),
            "per_list": per_list,
            "skipped": int(np.isnan(per_list).sum()),
        }

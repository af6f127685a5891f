"""MRR, as a Hugging Face `evaluate` metric over lists.

    metric = evaluate.load("metrics/mrr.py")           # or Mrr(keep_in_memory=True)
    metric.compute(predictions=[[0.2, 0.9, 0.5]], references=[[3, 0, 0]], relevant_from=3)
    # {"mrr": 0.333…, "per_list": [0.333…], "skipped": 0}

1 / rank of the first relevant candidate over the whole list (torchmetrics). A list without a relevant candidate is
skipped (NaN in `per_list`) and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
import torch
from torchmetrics.functional.retrieval import retrieval_reciprocal_rank

from reshelf.metrics.ordering import lists_info, mean_or_none, rank_scores

DESCRIPTION = "Mean reciprocal rank of the first relevant candidate; ties keep first-stage order."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, candidates in first-stage order, higher is better.
    references: one sequence of graded labels [K] per list.
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    mrr: mean over lists with a relevant candidate (None without any); per_list: one value per list, NaN where
    skipped; skipped: lists without a relevant candidate.
"""


def reciprocal_rank_of_list(scores: Sequence[float], labels: Sequence[int], relevant_from: int) -> float:
    """1 / rank of the first label that is at least `relevant_from`; NaN where there is none."""
    relevant = torch.as_tensor(np.asarray(labels) >= relevant_from)
    if not relevant.any():
        return float("nan")
    return float(retrieval_reciprocal_rank(rank_scores(scores), relevant))


class Mrr(evaluate.Metric):
    """Mean reciprocal rank over lists."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS)

    def _compute(
        self, predictions: list[list[float]], references: list[list[int]], relevant_from: int = 1
    ) -> dict[str, Any]:
        per_list = [
            reciprocal_rank_of_list(scores, labels, relevant_from)
            for scores, labels in zip(predictions, references, strict=True)
        ]
        return {"mrr": mean_or_none(per_list), "per_list": per_list, "skipped": int(np.isnan(per_list).sum())}

"""Recall@k, as a Hugging Face `evaluate` metric over lists.

    metric = evaluate.load("metrics/recall.py")        # or Recall(keep_in_memory=True)
    metric.compute(predictions=[[0.2, 0.9, 0.5]], references=[[3, 3, 0]], k=1, relevant_from=3)
    # {"recall@1": 0.5, "per_list": [0.5], "skipped": 0}

The share of a list's relevant candidates that is among the first k (torchmetrics). With one relevant candidate a list
it is the hit rate. A list without a relevant candidate is skipped (NaN in `per_list`) and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
import torch
from torchmetrics.functional.retrieval import retrieval_recall

from reshelf.metrics.ordering import lists_info, mean_or_none, rank_scores

DESCRIPTION = "Share of the relevant candidates among the first k, mean over lists; ties keep first-stage order."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, candidates in first-stage order, higher is better.
    references: one sequence of graded labels [K] per list.
    k: how many places count (default 10).
    relevant_from: the smallest label that counts as relevant (default 1).
Returns:
    recall@k: mean over lists with a relevant candidate (None without any); per_list: one value per list, NaN where
    skipped; skipped: lists without a relevant candidate.
"""


def recall_of_list(scores: Sequence[float], labels: Sequence[int], k: int, relevant_from: int) -> float:
    """Share of the labels that are at least `relevant_from` found in the first k places; NaN where there is none."""
    relevant = torch.as_tensor(np.asarray(labels) >= relevant_from)
    if not relevant.any():
        return float("nan")
    return float(retrieval_recall(rank_scores(scores), relevant, top_k=k))


class Recall(evaluate.Metric):
    """Recall@k over lists."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS)

    def _compute(
        self, predictions: list[list[float]], references: list[list[int]], k: int = 10, relevant_from: int = 1
    ) -> dict[str, Any]:
        per_list = [
            recall_of_list(scores, labels, k, relevant_from)
            for scores, labels in zip(predictions, references, strict=True)
        ]
        return {f"recall@{k}": mean_or_none(per_list), "per_list": per_list, "skipped": int(np.isnan(per_list).sum())}

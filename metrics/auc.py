"""AUC over all rows, as a Hugging Face `evaluate` metric over lists.

    metric = evaluate.load("metrics/auc.py")           # or Auc(keep_in_memory=True)
    metric.compute(predictions=[[0.2, 0.9], [0.5]], references=[[0, 3], [3]], relevant_from=3)
    # {"auc": 1.0, "per_list": [1.0, nan], "skipped": 1}

All (list, candidate) rows are compared with one another, also across lists and shoppers, so it asks that scores mean
the same everywhere (scikit-learn's `roc_auc_score`). Equal scores count one half: across lists there is no first-stage
order to break a tie with. `per_list` holds the AUC within each list, NaN where a list has only one of the two labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score

from reshelf.metrics.ordering import lists_info

DESCRIPTION = "Area under the ROC curve over all rows of all lists."
INPUTS = """
Args:
    predictions: one sequence of scores [K] per list, higher is better.
    references: one sequence of graded labels [K] per list.
    relevant_from: the smallest label that counts as relevant (default 1).
    within_lists: also give the AUC within each list (default; it takes most of the time).
Returns:
    auc: over all rows (None where only one of the two labels occurs); per_list: AUC within each list, NaN where a
    list has only one of the two labels; skipped: how many those are.
"""


def auc_of_rows(scores: Sequence[float] | np.ndarray, labels: Sequence[int] | np.ndarray, relevant_from: int) -> float:
    """AUC of rows [N]; NaN where only one of the two labels occurs."""
    relevant = np.asarray(labels) >= relevant_from
    if relevant.all() or not relevant.any():
        return float("nan")
    return float(roc_auc_score(relevant, np.asarray(scores, dtype=np.float64)))


class Auc(evaluate.Metric):
    """AUC over all rows."""

    def _info(self) -> evaluate.MetricInfo:
        return lists_info(DESCRIPTION, INPUTS)

    def _compute(
        self,
        predictions: list[list[float]],
        references: list[list[int]],
        relevant_from: int = 1,
        within_lists: bool = True,
    ) -> dict[str, Any]:
        whole = auc_of_rows(np.concatenate(predictions), np.concatenate(references), relevant_from)
        result: dict[str, Any] = {"auc": None if np.isnan(whole) else whole}
        if within_lists:
            rows = zip(predictions, references, strict=True)
            result["per_list"] = [auc_of_rows(scores, labels, relevant_from) for scores, labels in rows]
            result["skipped"] = int(np.isnan(result["per_list"]).sum())
        return result

"""The number by which settings and training steps of the learned systems are chosen on validation lists.

metric = SelectionMetric([one.labels for one in valid]);  metric(scores)     # higher is better
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reshelf.metrics.auc import auc
from reshelf.metrics.ndcg import exponential_gains, ndcg_of_lists


class SelectionMetric:
    """Mean nDCG@10 over the lists with a label above 0; AUC over all rows where every list holds one candidate.

    Args:
        labels: one int [K] per list.
    """

    def __init__(self, labels: Sequence[Sequence[int] | np.ndarray]) -> None:
        sizes = np.array([len(one) for one in labels])
        self._labels = np.concatenate([np.asarray(one) for one in labels])
        self._mask = np.arange(sizes.max()) < sizes[:, None]
        self._gains = self._grid(exponential_gains(self._labels))

    def __call__(self, scores: Sequence[np.ndarray] | np.ndarray) -> float:
        """Of one float [K] per list, or of all of them as float [rows]. One half where AUC has only one label."""
        flat = scores if isinstance(scores, np.ndarray) else np.concatenate(scores)
        if self._mask.shape[1] > 1:
            return float(np.nanmean(ndcg_of_lists(self._grid(flat), self._gains, self._mask)))
        return float(np.nan_to_num(auc(flat, self._labels), nan=0.5))

    def _grid(self, rows: np.ndarray) -> np.ndarray:
        grid = np.zeros(self._mask.shape)
        grid[self._mask] = rows
        return grid

"""First-stage order: what the shop shows today.

FirstStage().scores(data, lists)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.metrics.ordering import unranked


@dataclass
class FirstStage:
    """The order the candidates come in.

    A list's own first-stage scores are handed on where they never rise from one place to the next, so that AUC over
    all rows sees them; otherwise the order wins and the places count down from zero, for all lists. So they do where
    a list's scores are all equal: its candidates have an order all the same, and metrics would take it for unranked.
    """

    name: str = "first_stage"

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list, never rising."""
        use_scores = all(
            one.scores is not None and bool(np.all(np.diff(one.scores) <= 0)) and not unranked(one.scores)
            for one in lists
        )
        return [
            np.asarray(one.scores, dtype=np.float64)
            if use_scores
            else -np.arange(len(one.candidates), dtype=np.float64)
            for one in lists
        ]

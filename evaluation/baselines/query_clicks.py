"""Clicks per query: what earlier shoppers clicked for the same query, the newest counting most.

ClicksPerQuery().scores(data, lists)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import every_list_has

FEATURE = "query_clicks"


@dataclass
class ClicksPerQuery:
    """The lists' signal `query_clicks` alone; candidates nobody clicked for the query keep first-stage order."""

    name: str = FEATURE

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list.

        Raises:
            InputError: a list lacks the signal.
        """
        if not every_list_has(FEATURE, lists):
            raise InputError(
                f"{FEATURE} needs that signal in every list; add it to the mapping's signals, or leave out the system"
            )
        # Where nobody clicked anything for the query all are 0; the places tell them apart, far below one click.
        return [
            np.asarray(one.features[FEATURE], dtype=np.float64) - 1e-9 * np.arange(len(one.candidates)) for one in lists
        ]

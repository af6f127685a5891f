"""The best possible order, on data whose true expected utility is known (the simulator's).

BestPossible().scores(data, lists)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.errors import InputError


@dataclass
class BestPossible:
    """Orders by `utility`, which no model may read."""

    name: str = "best_possible"

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list.

        Raises:
            InputError: a list has no utility.
        """
        for one in lists:
            if one.utility is None:
                raise InputError(
                    f"list {one.list_id!r}, field utility: it is missing, so the best possible order is not known; "
                    "leave out the system best_possible"
                )
        return [np.asarray(one.utility, dtype=np.float64) for one in lists]

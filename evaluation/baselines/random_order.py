"""Random order: what a metric is worth when nothing is known.

RandomOrder(seed=0).scores(data, lists)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList


@dataclass
class RandomOrder:
    """Uniform random scores; a list gets the same ones whichever other lists are scored with it."""

    seed: int = 0
    name: str = "random"

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] in [0, 1) per list."""
        return [
            np.random.default_rng([self.seed, zlib.crc32(one.list_id.encode())]).random(len(one.candidates))
            for one in lists
        ]

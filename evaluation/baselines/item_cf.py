"""Collaborative filtering by items: what was taken together with what this shopper did, the latest most of all.

    system = ItemCf();  system.fit(data);  system.scores(data, lists)

Cosine between items over shoppers (Sarwar et al., WWW 2001), summed over the events of the request's own history. The
similarity of all pairs is never made: Σ_j w_j cos(j, i) is two sparse products. Nothing is needed beyond scipy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.sparse as sp

from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.collaborative import CollaborativeFilter, behaviour, candidate_places

_BATCH = 256


@dataclass(frozen=True)
class ItemCfSetting:
    """What the search varies."""

    decay: float = 0.8
    """Weight of an event over that of the next younger one."""
    damping: float = 0.0
    """Added to the squared norm of an item, so that two items that one shopper took are not all alike."""
    itself: bool = True
    """Whether an item of the history is like itself: what was looked at is wanted again."""


SEARCH = tuple(ItemCfSetting(*values) for values in product((0.6, 0.8, 0.95), (0.0, 2.0, 10.0), (True, False)))


@dataclass
class ItemCf(CollaborativeFilter[ItemCfSetting]):
    """Item-item collaborative filtering. The seed is not read: nothing is drawn."""

    search: Sequence[ItemCfSetting] = SEARCH
    name: str = "item_cf"

    def count(self, taken: sp.csr_matrix) -> None:
        self._taken = taken

    def raw(self, setting: ItemCfSetting, lists: Sequence[RankingList]) -> list[np.ndarray]:
        squares = np.asarray(self._taken.multiply(self._taken).sum(0)).ravel() + setting.damping
        scaled = (self._taken @ sp.diags(1 / np.sqrt(np.where(squares > 0, squares, 1)))).tocsr()
        own = np.asarray(scaled.multiply(scaled).sum(0)).ravel()
        turned = scaled.T.tocsr()
        result = []
        for start in range(0, len(lists), _BATCH):
            some = lists[start : start + _BATCH]
            profiles = behaviour(some, self._place, setting.decay)
            found = (profiles @ turned @ scaled).tocsr()
            for row, one in enumerate(some):
                known, places = candidate_places(one, self._place)
                values = np.zeros(len(known))
                values[known] = found[row, places].toarray().ravel()
                if not setting.itself:
                    values[known] -= profiles[row, places].toarray().ravel() * own[places]
                result.append(values)
        return result

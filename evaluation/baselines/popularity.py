"""Popularity: how many shoppers of the training split wanted an item, and how much.

Popularity().scores(data, lists)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import EventKind, RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import every_list_has

FEATURE = "popularity"
EVENT_GRADES = {EventKind.VIEW: 1, EventKind.CLICK: 1, EventKind.CART: 2, EventKind.PURCHASE: 3, EventKind.RATING: 3}


@dataclass
class Popularity:
    """The lists' own feature `popularity` where all of them have it, otherwise counted from the training split."""

    name: str = "popularity"

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list.

        Raises:
            InputError: the lists have no such feature and there is no training split.
        """
        if every_list_has(FEATURE, lists):
            return [np.asarray(one.features[FEATURE], dtype=np.float64) for one in lists]
        if not data.lists.get("train"):
            raise InputError(
                f"popularity needs train.parquet or a feature {FEATURE!r} in every list; "
                "leave out the system popularity"
            )
        counts = count(data.lists["train"])
        return [np.array([counts[item] for item in one.candidates], dtype=np.float64) for one in lists]


def count(lists: Iterable[RankingList]) -> Counter[str]:
    """Item id -> sum over shoppers of the strongest thing each did with it (1 click or view … 3 purchase).

    A shopper's lists repeat most of the history of the ones before, so a shopper counts once for an item.
    """
    strongest: dict[tuple[str, str], int] = {}
    for one in lists:
        done = [(event.item_id, EVENT_GRADES[event.kind]) for event in one.history if event.item_id is not None]
        if one.labels is not None:
            done += zip(one.candidates, one.labels, strict=True)
        for item, grade in done:
            key = one.user_id, item
            strongest[key] = max(grade, strongest.get(key, 0))
    counts: Counter[str] = Counter()
    for (_, item), grade in strongest.items():
        counts[item] += grade
    return counts

"""A list's numbers as a table, one row per candidate: what a ranker over features reads.

    columns = Numbers.of(train_lists, data.items);  columns.table(one)     # float64 [K, len(columns.names)]

The features that the lists carry, the first-stage score (or place), what the catalogue says in numbers (price, price
level, rating, rating count), and three numbers of the request (length of the history and of the query, candidates).
Missing is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError

TEACHER = "teacher"
"""The feature that `reshelf teach` writes: for training rerankers, never an input of a system."""
ITEM_NUMBERS = ("price", "price_level", "rating", "rating_count")
REQUEST_NUMBERS = ("history_length", "query_words", "candidates")


def every_list_has(feature: str, lists: Iterable[RankingList]) -> bool:
    """Whether every list brings its own values of a feature."""
    return all(feature in one.features for one in lists)


@dataclass(frozen=True)
class Numbers:
    """Which columns there are."""

    features: tuple[str, ...]
    """Named numbers of the lists."""
    scored: bool
    """Lists carry first-stage scores; otherwise the place stands in for them."""
    items: Mapping[str, Item]

    @classmethod
    def of(cls, lists: Sequence[RankingList], items: Mapping[str, Item]) -> Numbers:
        """The features that all of these lists have, without a teacher's scores."""
        shared = set.intersection(*(set(one.features) for one in lists)) if lists else set()
        names = tuple(name for name in lists[0].features if name in shared and name != TEACHER) if lists else ()
        return cls(names, all(one.scores is not None for one in lists), items)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.features, "first_stage", *ITEM_NUMBERS, *REQUEST_NUMBERS)

    def table(self, one: RankingList) -> np.ndarray:
        """float64 [K, columns].

        Raises:
            InputError: the list lacks a feature that the training lists had.
        """
        n = len(one.candidates)
        columns = []
        for name in self.features:
            if name not in one.features:
                raise InputError(f"list {one.list_id!r}, field features.{name}: it is missing; train lists have it")
            columns.append(np.asarray(one.features[name], dtype=np.float64))
        first_stage = one.scores if self.scored else None
        columns.append(
            -np.arange(n, dtype=np.float64) if first_stage is None else np.asarray(first_stage, dtype=np.float64)
        )
        found = [self.items[item] for item in one.candidates]
        for name in ITEM_NUMBERS:
            values = (getattr(item, name) for item in found)
            columns.append(np.array([np.nan if value is None else float(value) for value in values]))
        columns += [np.full(n, float(value)) for value in (len(one.history), len(one.query.split()), n)]
        return np.stack(columns, axis=1)

"""What the collaborative filters share: who took what, a request's own behaviour, and the choice on validation lists.

    taken = interactions(data.lists["train"], place);  profiles = behaviour(lists, place, decay=0.8)
    class ItemCf(CollaborativeFilter[ItemCfSetting]): ...     # with `count(taken)` and `raw(setting, lists)`

Both are sparse: shoppers by items, and requests by items. What a filter makes of them orders a list by the history that
the list brings itself: an event that arrives changes the next ranking, with nothing fitted anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import scipy.sparse as sp

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import MAX_GRADE, Event, EventKind, RankingList
from reshelf.evaluation.baselines.learning import useful
from reshelf.evaluation.baselines.popularity import EVENT_GRADES
from reshelf.evaluation.baselines.selection import SelectionMetric

Settings = TypeVar("Settings")
MIXES = (0.0, 0.3, 1.0, 3.0, 10.0)
"""Weights of the first stage that are tried."""
_LIKED_FROM = 3.0
"""Stars."""


def strength(event: Event) -> float:
    """How much an event says that its item is wanted, from 0 to 1 (a purchase); 0 for a search or under three stars."""
    disliked = event.kind == EventKind.RATING and event.value is not None and event.value < _LIKED_FROM
    if event.item_id is None or disliked:
        return 0.0
    return EVENT_GRADES[event.kind] / MAX_GRADE


def interactions(lists: Iterable[RankingList], place: Mapping[str, int]) -> sp.csr_matrix:
    """float64 [shoppers, items]: the strength of the strongest thing a shopper did with an item, counted once.

    Histories and labels both count; lists of one shopper repeat each other's history.
    """
    strongest: dict[tuple[str, int], float] = {}
    for one in lists:
        done = [(event.item_id, strength(event)) for event in one.history if event.item_id is not None]
        done += [(item, label / MAX_GRADE) for item, label in zip(one.candidates, one.labels or ())]
        for item, value in done:
            key = one.user_id, place[item]
            if value > strongest.get(key, 0.0):
                strongest[key] = value
    shoppers = {user: row for row, user in enumerate(dict.fromkeys(user for user, _ in strongest))}
    rows, columns = [shoppers[user] for user, _ in strongest], [item for _, item in strongest]
    return sp.csr_matrix((list(strongest.values()), (rows, columns)), shape=(len(shoppers), len(place)))


def behaviour(lists: Sequence[RankingList], place: Mapping[str, int], decay: float) -> sp.csr_matrix:
    """float64 [lists, items]: Σ strength · decay^age over a list's own events; the youngest has age 0.

    Items that were not there in training are left out, and make the others no older.
    """
    rows, columns, values = [], [], []
    for row, one in enumerate(lists):
        known = [(place[e.item_id], strength(e)) for e in one.history if e.item_id is not None and e.item_id in place]
        for age, (item, value) in enumerate(reversed([(item, value) for item, value in known if value > 0])):
            rows.append(row)
            columns.append(item)
            values.append(value * decay**age)
    return sp.csr_matrix((values, (rows, columns)), shape=(len(lists), len(place)))


@dataclass(frozen=True)
class Blend:
    """A filter's scores and the place in the first stage, added up."""

    spread: float
    """Of the filter's scores on the validation lists: they count in units of it."""
    mix: float
    """Weight of −log₂(1 + place); 0 leaves the filter alone."""

    def __call__(self, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """float64 [K] per list."""
        return [one / self.spread - self.mix * np.log2(np.arange(2, len(one) + 2)) for one in scores]


def choose(
    settings: Iterable[Settings],
    score: Callable[[Settings], Sequence[np.ndarray]],
    lists: Sequence[RankingList],
    mixes: Sequence[float],
) -> tuple[Settings, Blend, dict[str, Any]]:
    """The settings and the mix that order the validation lists best; of equals, the first."""
    metric = SelectionMetric([one.labels or () for one in lists])
    best: tuple[float, Settings, Blend] | None = None
    for one in settings:
        made = score(one)
        spread = float(np.concatenate(made).std()) or 1.0
        for mix in mixes:
            blend = Blend(spread, mix)
            value = metric(blend(made))
            if best is None or value > best[0]:
                best = value, one, blend
    assert best is not None
    return best[1], best[2], {"mix": best[2].mix, "valid": best[0]}


def candidate_places(one: RankingList, place: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """bool [K], which candidates training knew, and int64 of those: their places."""
    known = np.array([item in place for item in one.candidates])
    return known, np.array([place[item] for item in one.candidates if item in place], dtype=np.int64)


@dataclass
class CollaborativeFilter(Generic[Settings]):
    """Counts on train lists, chooses its setting on validation lists, and adds the first stage.

    A filter defines `count(taken)` and `raw(setting, lists)`. Equal scores (an empty history, unknown items) keep
    first-stage order.
    """

    seed: int = 0
    search: Sequence[Settings] = ()
    """Settings to try."""
    mixes: Sequence[float] = MIXES
    """Weights of the first stage to try; `(0.0,)` for the filter alone."""
    valid_lists: int = 500
    """Validation lists used, the first ones."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """What the search chose."""

    def fit(self, data: RankingData, advance: Callable[[int], None] | None = None) -> None:
        """Count on `data.lists["train"]`, choose on `data.lists["valid"]`.

        Train lists are not to be scored later: their targets have been counted.

        Raises:
            InputError: a split has no list with a label above 0.
        """
        useful(data.lists.get("train", []), "train")
        valid = useful(data.lists.get("valid", []), "valid")[: self.valid_lists]
        self._place = {item: n for n, item in enumerate(data.items)}
        self.count(interactions(data.lists["train"], self._place))

        def score(setting: Settings) -> list[np.ndarray]:
            if advance:
                advance(len(valid))
            return self.raw(setting, valid)

        self._setting, self._blend, found = choose(self.search, score, valid, self.mixes)
        self.chosen = vars(self._setting) | found

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list."""
        return self._blend(self.raw(self._setting, lists))

    def count(self, taken: sp.csr_matrix) -> None:
        """Learn from what train shoppers took, float64 [shoppers, items]."""
        raise NotImplementedError

    def raw(self, setting: Settings, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list, without the first stage."""
        raise NotImplementedError

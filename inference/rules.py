"""A merchandiser's rules over a ranked list: what may not be in it, what goes where, and how many of a kind.

    rules = Rules.model_validate({
        "never": [{"attributes.stock": ["out", "0"]}],
        "pins": [{"item_id": "p7", "place": 1}],
        "boosts": [{"where": {"brand": ["Nord"]}, "by": 0.5}],
        "limits": [{"per": "brand", "at_most": 2, "first": 10}],
    })
    arranged = rules.arrange(values, items)
    [items[k] for k in arranged.order]

They come after scoring, never into the model. What they leave alone stays in the order it was in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reshelf.data.dataset_folder import problem_of
from reshelf.data.schema import Finite, Id, Item, Whole
from reshelf.errors import InputError
from reshelf.metrics.ordering import best_first

_MOST, _MOST_VALUES, _MOST_LIMITS, _MOST_PLACES = 50, 200, 4, 100
"""Of what one request may ask for: with all of it, a list of 1000 is arranged in a tenth of a second."""
_ATTRIBUTE = "attributes."
_FIELDS = ("item_id", "brand", "category")
# `fail_fast`: one wrong entry is enough to refuse a list.
Values = Annotated[list[str], Field(min_length=1, max_length=_MOST_VALUES, fail_fast=True)]


def _known(name: str) -> str:
    if name not in _FIELDS and not (name.startswith(_ATTRIBUTE) and name != _ATTRIBUTE):
        raise ValueError(f"{name!r} is no field of rules; give item_id, brand, category or attributes.NAME")
    return name


def values_of(item: Item, name: str) -> tuple[str, ...]:
    """An item's values of a field of rules: of `category` all levels, of `attributes.NAME` that attribute's."""
    if name == "category":
        return item.category
    value = item.attributes.get(name.removeprefix(_ATTRIBUTE)) if name.startswith(_ATTRIBUTE) else getattr(item, name)
    return () if value is None else (value,)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Where = Annotated[dict[str, Values], Field(min_length=1, max_length=4)]
"""Fields, and the values that each may have: `{"brand": ["Nord"], "attributes.color": ["red", "blue"]}`."""


class Pin(_Model):
    """A product that stands at one place, whatever its score."""

    item_id: Id
    place: Annotated[Whole, Field(ge=1)]
    """1 is first; the last where the list is shorter. Of two pins of one place whose products are both in a list, the
    first holds."""


class Boost(_Model):
    """Products that are raised, or with a value below zero buried."""

    where: Where
    by: Finite
    """Log-odds: 0.7 doubles the odds of being wanted."""


class Limit(_Model):
    """No more than so many alike among the first places, as long as there are others."""

    per: Annotated[str, Field(min_length=1)]
    """brand, category (its leaf), or attributes.NAME; products without one are not alike."""
    at_most: Annotated[Whole, Field(ge=1)]
    first: Annotated[Whole, Field(ge=1, le=_MOST_PLACES)] = 10
    """Places from the top."""

    _check = field_validator("per")(_known)

    def group(self, item: Item) -> str | None:
        values = values_of(item, self.per)
        return values[-1] if values else None


@dataclass(frozen=True)
class Arranged:
    """What rules made of an order."""

    order: np.ndarray
    """int64, places in the list of what is left, best first."""
    notes: dict[int, list[str]] = field(default_factory=dict)
    """By place in the list, what rules did with a candidate, in words."""
    counts: dict[str, int] = field(default_factory=dict)
    """Candidates by what rules did: removed, pinned, boosted, limited (put off, for too many were alike)."""


class Rules(_Model):
    """What a shop, or one request, asks for. `never` wins over all, then pins, then limits.

    Examples:
        >>> items = [Item(item_id=name, title=name, brand=name[0]) for name in ("a1", "a2", "b1", "a3")]
        >>> rules = Rules(limits=[Limit(per="brand", at_most=1, first=2)], pins=[Pin(item_id="a3", place=4)])
        >>> rules.arrange(np.array([4.0, 3.0, 2.0, 1.0]), items).order.tolist()
        [0, 2, 1, 3]
    """

    only: Annotated[list[Where], Field(max_length=_MOST, fail_fast=True)] = []
    """Products that fit none of these are removed; all stay where there are none."""
    never: Annotated[list[Where], Field(max_length=_MOST, fail_fast=True)] = []
    """Products that fit one of these are removed, as those that are out of stock."""
    pins: Annotated[list[Pin], Field(max_length=_MOST, fail_fast=True)] = []
    boosts: Annotated[list[Boost], Field(max_length=_MOST, fail_fast=True)] = []
    limits: Annotated[list[Limit], Field(max_length=_MOST_LIMITS, fail_fast=True)] = []

    @field_validator("only", "never", "boosts")
    @classmethod
    def _known_fields(cls, entries: list[Where] | list[Boost]) -> list[Where] | list[Boost]:
        for entry in entries:
            for name in entry.where if isinstance(entry, Boost) else entry:
                _known(name)
        return entries

    def __bool__(self) -> bool:
        return bool(self.only or self.never or self.pins or self.boosts or self.limits)

    def after(self, others: Rules | None) -> Rules:
        """These behind others', as a request's behind its tenant's: of two pins of one product or place, theirs holds,
        and where both have `only`, theirs does."""
        if not others:
            return self
        taken = {pin.item_id for pin in others.pins}, {pin.place for pin in others.pins}
        pins = [pin for pin in self.pins if pin.item_id not in taken[0] and pin.place not in taken[1]]
        return Rules.model_construct(
            only=others.only or self.only, never=[*others.never, *self.never], pins=[*others.pins, *pins],
            boosts=[*others.boosts, *self.boosts], limits=[*others.limits, *self.limits],
        )  # fmt: skip

    def permitted(self, items: Iterable[Item]) -> Iterator[int]:
        """Which items `only` and `never` leave in a list, by their places."""
        is_permitted = self.permission()
        return (k for k, item in enumerate(items) if is_permitted(item))

    def permission(self) -> Callable[[Item], bool]:
        """Says whether `only` and `never` leave an item in a list."""
        only, never = [_Test(where) for where in self.only], [_Test(where) for where in self.never]

        def is_permitted(item: Item) -> bool:
            return not any(test.fits(item) for test in never) and (not only or any(test.fits(item) for test in only))

        return is_permitted

    def arrange(self, values: np.ndarray, items: Sequence[Item]) -> Arranged:
        """The order of a list.

        Args:
            values: float [K], higher is better, in first-stage order: equal ones keep it.
            items: the K candidates.
        """
        matches = self._matches(items)
        return self._arranged(best_first(self._boosted(values, matches)), items, matches)

    def boost(self, values: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        """Values with boosts in them, float64 [K]."""
        return self._boosted(values, self._matches(items))

    def rearrange(self, order: Sequence[int] | np.ndarray, items: Sequence[Item]) -> Arranged:
        """The order of a list by all rules but boosts, which the given order has in it already.

        Args:
            order: the K candidates, best first.
            items: the K candidates in first-stage order.
        """
        return self._arranged(order, items, self._matches(items))

    def _matches(self, items: Sequence[Item]) -> np.ndarray:
        """Which items each boost is for, bool [boosts, K]."""
        tests = [_Test(boost.where) for boost in self.boosts]
        return np.array([[test.fits(item) for item in items] for test in tests], dtype=bool).reshape(-1, len(items))

    def _boosted(self, values: np.ndarray, matches: np.ndarray) -> np.ndarray:
        values = np.array(values, dtype=np.float64)
        for boost, found in zip(self.boosts, matches, strict=True):
            values[found] += boost.by
        return values

    def _arranged(self, order: Sequence[int] | np.ndarray, items: Sequence[Item], matches: np.ndarray) -> Arranged:
        notes: dict[int, list[str]] = {}
        kept = list(self.permitted(items))
        counts = Counter(removed=len(items) - len(kept))
        for boost, found in zip(self.boosts, matches[:, kept], strict=True):
            for at in np.flatnonzero(found).tolist():
                note = f"{'boosted' if boost.by > 0 else 'buried'} by {abs(boost.by):g}"
                notes.setdefault(kept[at], []).append(note)
        counts["boosted"] = len(notes)
        pinned = self._pinned({items[k].item_id: k for k in kept})
        for place, k in pinned.items():
            notes.setdefault(k, []).append(f"pinned to place {place + 1}")
        counts["pinned"] = len(pinned)
        left = set(kept) - set(pinned.values())
        waiting = [k for k in map(int, order) if k in left]
        placed = self._fill(waiting, pinned, items, notes, counts)
        return Arranged(np.array(placed, dtype=np.int64), notes, {name: n for name, n in counts.items() if n})

    def _pinned(self, places: Mapping[str, int]) -> dict[int, int]:
        """Places from 0, and who is pinned there: of two pins of one place or one product, the first holds.

        Args:
            places: of the candidates that are left, by id.
        """
        left, pinned = dict(places), dict[int, int]()
        for pin in self.pins:
            if pin.item_id in left and pin.place - 1 not in pinned:
                pinned[pin.place - 1] = left.pop(pin.item_id)
        return pinned

    def arrange_first_stage(self, items: Sequence[Item]) -> Arranged:
        """The order of a list that has no scores: a boost counts as if first-stage places were worth 1, 1/2, 1/3, …"""
        return self.arrange(-np.log1p(np.arange(len(items))), items)

    def _fill(
        self, waiting: list[int], pinned: dict[int, int], items: Sequence[Item], notes: dict[int, list[str]],
        counts: Counter[str],
    ) -> list[int]:  # fmt: skip
        """Places from the top: a pin's own; else the best that no limit puts off, or the best where all are."""
        groups = [[limit.group(item) for limit in self.limits] for item in items] if self.limits else []
        # Products that are pinned among the first count from the start.
        alike = [
            Counter(groups[k][n] for place, k in pinned.items() if place < limit.first)
            for n, limit in enumerate(self.limits)
        ]

        def fits(k: int, place: int) -> bool:
            return all(
                place >= limit.first or groups[k][n] is None or alike[n][groups[k][n]] < limit.at_most
                for n, limit in enumerate(self.limits)
            )

        order: list[int] = []
        total, last = len(waiting) + len(pinned), max((limit.first for limit in self.limits), default=0)
        full_until = 0
        """Places before this one fit nothing that waits: counts only rise until a limit ends."""
        put_off = set()
        for place in range(total):
            if place in pinned:
                order.append(pinned.pop(place))
            elif not waiting:
                order.append(pinned.pop(min(pinned)))
            else:
                at: int | None = 0
                if full_until <= place < last:
                    at = next((n for n, k in enumerate(waiting) if fits(k, place)), None)
                if at is None:
                    at, full_until = 0, min(limit.first for limit in self.limits if limit.first > place)
                put_off.update(waiting[:at])
                k = waiting.pop(at)
                for n in range(len(self.limits)):
                    alike[n][groups[k][n]] += 1
                order.append(k)
        for k in put_off:
            notes.setdefault(k, []).append("put off: too many alike before it")
        counts["limited"] = len(put_off)
        return order


class _Test:
    """Whether an item has one of the values of every field."""

    def __init__(self, where: Where) -> None:
        self._values = [(name, frozenset(values)) for name, values in where.items()]

    def fits(self, item: Item) -> bool:
        return all(not values.isdisjoint(values_of(item, name)) for name, values in self._values)


def read_rules(path: Path) -> Rules:
    """Rules of a JSON file.

    Raises:
        InputError: it cannot be read, or holds no rules.
    """
    try:
        return Rules.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{path}, {problem_of(error)}") from error

"""What a catalogue knows about its own items: the price level of an item within its category."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from reshelf.data.schema import Item

LEVELS = 5
Category = tuple[str, ...]


class PriceLevels:
    """Which fifth of its leaf category (and currency) an item's price falls in.

    A tiny model cannot know that 40 EUR is cheap for a coat and dear for a mug; the shop does. Categories with fewer
    than five priced items get no levels: there is nothing to compare with.
    """

    def __init__(self, prices: Iterable[tuple[Category, str | None, float | None]]) -> None:
        """Args:
        prices: category, currency and price of every item.
        """
        groups: dict[tuple[Category, str | None], list[float]] = defaultdict(list)
        for category, currency, price in prices:
            if price is not None:
                groups[category, currency].append(price)
        self._edges = {
            group: np.quantile(found, np.arange(1, LEVELS) / LEVELS).tolist()
            for group, found in groups.items()
            if len(found) >= LEVELS
        }

    @classmethod
    def of_items(cls, items: Iterable[Item]) -> PriceLevels:
        return cls((item.category, item.currency, item.price) for item in items)

    def level(self, category: Category, currency: str | None, price: float | None) -> int | None:
        """1 cheapest … 5 dearest; None without a price or a level."""
        edges = self._edges.get((category, currency))
        return None if price is None or edges is None else 1 + bisect_left(edges, price)

    def priced(self, item: Item, price: float | None) -> Item:
        """The item at a price, with the level of that price."""
        level = self.level(item.category, item.currency, price)
        return item.model_copy(update={"price": price, "price_level": level})


def with_price_levels(items: Iterable[Item]) -> dict[str, Item]:
    """Items by id, each with its price level."""
    items = list(items)
    levels = PriceLevels.of_items(items)
    return {item.item_id: levels.priced(item, item.price) for item in items}

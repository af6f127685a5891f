"""What a catalogue knows about its own items: the price level of an item within its category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from reshelf.data.schema import Item

LEVELS = 5


class PriceLevels:
    """Which fifth of its leaf category (and currency) an item's price falls in.

    A tiny model cannot know that 40 EUR is cheap for a coat and dear for a mug; the shop does. Categories with fewer
    than five priced items get no levels: there is nothing to compare with.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        groups: dict[tuple[tuple[str, ...], str | None], list[float]] = defaultdict(list)
        for item in items:
            if item.price is not None:
                groups[item.category, item.currency].append(item.price)
        self._edges = {
            group: np.quantile(prices, np.arange(1, LEVELS) / LEVELS)
            for group, prices in groups.items()
            if len(prices) >= LEVELS
        }

    def priced(self, item: Item, price: float | None) -> Item:
        """The item at a price, with the level of that price."""
        edges = self._edges.get((item.category, item.currency))
        level = None if price is None or edges is None else 1 + int(np.searchsorted(edges, price, side="left"))
        return item.model_copy(update={"price": price, "price_level": level})


def with_price_levels(items: Iterable[Item]) -> dict[str, Item]:
    """Items by id, each with its price level."""
    items = list(items)
    levels = PriceLevels(items)
    return {item.item_id: levels.priced(item, item.price) for item in items}

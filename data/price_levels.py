"""What a catalogue knows about its own items: the price level of an item within its category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from reshelf.data.schema import Item

LEVELS = 5


def with_price_levels(items: Iterable[Item]) -> dict[str, Item]:
    """Items by id, each with the fifth of its leaf category (and currency) that its price falls in.

    A tiny model cannot know that 40 EUR is cheap for a coat and dear for a mug; the shop does. Categories with fewer
    than five priced items get no levels: there is nothing to compare with.
    """
    items = list(items)
    groups: dict[tuple[tuple[str, ...], str | None], list[float]] = defaultdict(list)
    for item in items:
        if item.price is not None:
            groups[item.category, item.currency].append(item.price)
    edges = {
        group: np.quantile(prices, np.arange(1, LEVELS) / LEVELS)
        for group, prices in groups.items()
        if len(prices) >= LEVELS
    }
    result = {}
    for item in items:
        group = (item.category, item.currency)
        level = None
        if item.price is not None and group in edges:
            level = 1 + int(np.searchsorted(edges[group], item.price, side="left"))
        result[item.item_id] = item.model_copy(update={"price_level": level})
    return result

"""The simulator's own view of how a product fits a shopper, as numbers: what a shop could count that knew its shoppers.

    lists = [with_match_features(one, data.items) for one in data.lists["train"]]

Shares of the history with the candidate's brand, colour, material and category, weighted by how much an event says
(a purchase more than a click), the distance between its price level and the history's, and whether the query names its
colour or material. Handed to LambdaMART, they bound what a reranker can get that must find all of it in text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reshelf.data.schema import EventKind, Item, RankingList

WEIGHTS = {EventKind.CLICK: 1.0, EventKind.CART: 1.0, EventKind.PURCHASE: 1.0}
FEATURES = (
    "brand_match", "colour_match", "material_match", "category_match", "level_distance", "level_fit", "asked",
)  # fmt: skip


def with_match_features(one: RankingList, items: Mapping[str, Item]) -> RankingList:
    """The list with `FEATURES` in place of whatever features it had."""
    past = [(items[e.item_id], WEIGHTS.get(e.kind, 0.0)) for e in one.history if e.item_id is not None]
    total = sum(weight for _, weight in past) or 1.0
    levels = np.array([item.price_level or 3 for item, _ in past], dtype=np.float64)
    words = set(one.query.lower().split())
    rows = []
    for candidate in (items[c] for c in one.candidates):
        colour, material = candidate.attributes.get("colour", ""), candidate.attributes.get("material", "")

        def share(same: list[bool]) -> float:
            return sum(weight for (_, weight), is_same in zip(past, same, strict=True) if is_same) / total

        level = float(candidate.price_level or 3)
        rows.append(
            (
                share([item.brand == candidate.brand for item, _ in past]),
                share([item.attributes.get("colour") == colour for item, _ in past]),
                share([item.attributes.get("material") == material for item, _ in past]),
                share([item.category == candidate.category for item, _ in past]),
                abs(level - levels.mean()) if len(levels) else 0.0,
                float(np.mean(np.abs(levels - level) < 0.5)) if len(levels) else 0.0,
                float(colour in words or material in words),
            )
        )
    columns = zip(*rows, strict=True)
    return one.model_copy(update={"features": dict(zip(FEATURES, columns, strict=True))})

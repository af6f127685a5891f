"""BM25 (bm25s): the query's words against an item's words; no history, no behaviour.

Bm25().scores(data, lists)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reshelf.data.bm25 import Bm25Index
from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Item, RankingList


@dataclass
class Bm25:
    """Scores every candidate by BM25 of the query over the whole catalogue.

    For an empty query (a recommendation slot) the titles of the last `recent` history items stand in for it.
    """

    recent: int = 10
    """Items of the history's end used for an empty query."""
    name: str = "bm25"

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list; 0 where no word is shared."""
        place = {item: i for i, item in enumerate(data.items)}
        index = Bm25Index(map(item_text, data.items.values()))
        return [index.scores(self.query_text(data, one))[[place[item] for item in one.candidates]] for one in lists]

    def query_text(self, data: RankingData, one: RankingList) -> str:
        """The query, or the recent history's titles where there is none."""
        if one.query.strip():
            return one.query
        recent = [event.item_id for event in one.history if event.item_id is not None][-self.recent :]
        return " ".join(data.items[item].title for item in recent)


def item_text(item: Item) -> str:
    """What an item can be found by: title, brand, category, attribute values, description."""
    parts = [item.title, item.brand or "", *item.category, *item.attributes.values(), item.description or ""]
    return " ".join(parts)

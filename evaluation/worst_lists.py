"""The lists that got worst, with their text: where to look first when a number disappoints.

worst_lists(mine, other, scores, lists, data.items, count=5)[0]["query"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reshelf.data.schema import EventKind, Item, RankingList
from reshelf.metrics.ordering import best_first, unranked
from reshelf.translation import translations

_TOP, _RECENT = 5, 5


def worst_lists(
    mine: np.ndarray,
    other: np.ndarray,
    scores: Sequence[np.ndarray],
    lists: Sequence[RankingList],
    items: Mapping[str, Item],
    count: int,
    language: str = "en",
) -> list[dict[str, Any]]:
    """The `count` lists whose metric fell most from `other` to `mine`, the worst first; only those where it fell.

    Args:
        mine: float [n_lists] of the reranker, NaN where a list has no value.
        other: the same of the first stage.
        scores: the reranker's, float [K] per list.
        language: of the names of events.
    """
    change = np.nan_to_num(mine - other)
    rows = [int(row) for row in np.argsort(change, kind="stable")[:count] if change[row] < 0]
    _ = translations(language).gettext
    kinds = {kind: _(kind.value) for kind in EventKind}
    return [_as_json(lists[row], scores[row], items, float(mine[row]), float(other[row]), kinds) for row in rows]


def _as_json(
    one: RankingList, scores: np.ndarray, items: Mapping[str, Item], value: float, before: float,
    kinds: Mapping[EventKind, str],
) -> dict[str, Any]:  # fmt: skip
    ranked = best_first(scores)
    wanted = np.asarray(one.utility if one.labels is None else one.labels, dtype=np.float64)
    best = int(np.argmax(wanted))
    return {
        "list_id": one.list_id,
        "query": one.query,
        "history": [
            f"{kinds[event.kind]} {items[event.item_id].title if event.item_id else event.query}"
            for event in one.history[-_RECENT:]
        ],
        "before": before,
        "after": value,
        "first_stage": [items[item].title for item in one.candidates[:_TOP]],
        "reranked": [items[one.candidates[place]].title for place in ranked[:_TOP]],
        "wanted": items[one.candidates[best]].title,
        "wanted_place_before": best + 1,
        "wanted_place_after": int(np.flatnonzero(ranked == best)[0]) + 1,
        "unranked": unranked(scores),
    }

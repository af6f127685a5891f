"""The first k places: how much of it is right, how much of the catalogue it shows, how varied it is.

top_k_quality(scores, lists, data.items, k=10, relevant_from=3)["precision"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from reshelf.data.schema import Item, RankingList
from reshelf.metrics.ordering import best_first


def top_k_quality(
    scores: Sequence[np.ndarray], lists: Sequence[RankingList], items: Mapping[str, Item], k: int, relevant_from: int
) -> dict[str, float]:
    """One system's shares, each between 0 and 1.

    Args:
        scores: float [K] per list.
        relevant_from: the smallest label that counts as relevant.

    Returns:
        accuracy, precision, recall, f1: over all candidates of all lists, where the first k places say "relevant";
        left out where lists have no labels. coverage: share of all products in the lists that are in the first k
        places of some list. diversity: mean over lists of the share of pairs in the first k places that are of
        different categories (of different brands where there are no categories); left out where items have neither.
    """
    chosen = [best_first(values)[:k] for values in scores]
    shown = {one.candidates[place] for one, places in zip(lists, chosen) for place in places}
    result: dict[str, float] = {}
    if lists[0].labels is not None:
        predicted, relevant = [], []
        for one, places in zip(lists, chosen):
            shown_first = np.zeros(len(one.candidates), dtype=bool)
            shown_first[places] = True
            predicted.append(shown_first)
            relevant.append(np.asarray(one.labels) >= relevant_from)
        flat, wanted = np.concatenate(predicted), np.concatenate(relevant)
        precision, recall, f1, _ = precision_recall_fscore_support(wanted, flat, average="binary", zero_division=0.0)
        result = {"accuracy": float(accuracy_score(wanted, flat)), "precision": float(precision)}
        result |= {"recall": float(recall), "f1": float(f1)}
    result["coverage"] = len(shown) / len({item for one in lists for item in one.candidates})
    varied = [value for one, places in zip(lists, chosen) if (value := _varied(one, places, items)) is not None]
    return result | ({"diversity": float(np.mean(varied))} if varied else {})


def _varied(one: RankingList, places: np.ndarray, items: Mapping[str, Item]) -> float | None:
    found = [items[one.candidates[place]] for place in places]
    kinds = [item.category for item in found]
    if not any(kinds):
        kinds = [(item.brand,) if item.brand else () for item in found]
    if not any(kinds) or len(kinds) < 2:
        return None
    _, counts = np.unique([" > ".join(kind) for kind in kinds], return_counts=True)
    n = len(kinds)
    return float(1 - (counts * (counts - 1)).sum() / (n * (n - 1)))

"""The first k places: how much of it is right, how much of the catalogue it shows, how varied it is.

top_k_quality(scores, lists, data.items, k=10, relevant_from=3)["precision"]

A list that was not ranked (`ordering.unranked`) counts by what its first k places hold on average over all its orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from reshelf.data.schema import Item, RankingList
from reshelf.metrics.ordering import best_first, unranked


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
    chosen = [_first_places(values, k) for values in scores]
    result: dict[str, float] = {}
    if lists[0].labels is not None:
        # Every candidate twice, in the first places and not, each as much as it is that.
        wanted = np.tile(np.concatenate([np.asarray(one.labels) >= relevant_from for one in lists]), 2)
        shares = np.concatenate(chosen)
        shown, weights = np.repeat([True, False], len(shares)), np.concatenate([shares, 1 - shares])
        precision, recall, f1, _ = precision_recall_fscore_support(
            wanted, shown, average="binary", sample_weight=weights, zero_division=0.0
        )
        result = {"accuracy": float(accuracy_score(wanted, shown, sample_weight=weights))}
        result |= {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    hidden: dict[str, float] = {}
    for one, places in zip(lists, chosen):
        for item, share in zip(one.candidates, places.tolist()):
            hidden[item] = hidden.get(item, 1.0) * (1 - share)
    result["coverage"] = sum(1 - share for share in hidden.values()) / len(hidden)
    varied = [value for one, places in zip(lists, chosen) if (value := _varied(one, places, k, items)) is not None]
    return result | ({"diversity": float(np.mean(varied))} if varied else {})


def _first_places(scores: np.ndarray, k: int) -> np.ndarray:
    """How likely each candidate stands in the first k places, float64 [K]: 1 or 0 where the list was ranked."""
    if unranked(scores):
        return np.full(len(scores), min(k, len(scores)) / len(scores))
    shares = np.zeros(len(scores))
    shares[best_first(scores)[:k]] = 1.0
    return shares


def _varied(one: RankingList, places: np.ndarray, k: int, items: Mapping[str, Item]) -> float | None:
    """Any two of a list that was not ranked stand in the first places equally often."""
    found = [items[one.candidates[place]] for place in np.flatnonzero(places)]
    kinds = [item.category for item in found]
    if not any(kinds):
        kinds = [(item.brand,) if item.brand else () for item in found]
    if not any(kinds) or min(k, len(kinds)) < 2:
        return None
    _, counts = np.unique([" > ".join(kind) for kind in kinds], return_counts=True)
    n = len(kinds)
    return float(1 - (counts * (counts - 1)).sum() / (n * (n - 1)))

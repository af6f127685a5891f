"""How often and how far a reranker moves products, and how much of that is the shopper's history.

movement(scores, first_stage, k=10)["lists_changed"]
moves(scores, first_stage)                     # int64 [all candidates]: places up, down below zero
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reshelf.metrics.ordering import order


def moves(scores: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> np.ndarray:
    """Places each candidate of each list went up from the order of `before`, int64 [all candidates]."""
    return np.concatenate([_places(old) - _places(new) for new, old in zip(scores, before)])


def movement(scores: Sequence[np.ndarray], before: Sequence[np.ndarray], k: int) -> dict[str, float]:
    """What changed from the order of `before`.

    Returns:
        lists_changed: share of lists whose first k places changed; first_changed: whose first product changed;
        replaced: share of the first k places that hold a product that was not among the first k; mean_places: mean
        distance moved over all candidates, in places.
    """
    changed, first, replaced = [], [], []
    for new, old in zip(scores, before):
        now, then = order(new)[:k], order(old)[:k]
        changed.append(not np.array_equal(now, then))
        first.append(now[0] != then[0])
        replaced.append(1 - len(np.intersect1d(now, then)) / len(now))
    return {
        "lists_changed": float(np.mean(changed)),
        "first_changed": float(np.mean(first)),
        "replaced": float(np.mean(replaced)),
        "mean_places": float(np.abs(moves(scores, before)).mean()),
    }


def _places(scores: np.ndarray) -> np.ndarray:
    places = np.empty(len(scores), dtype=np.int64)
    places[order(scores)] = np.arange(len(scores))
    return places

"""Where a system is good and where it is not: the same metric over parts of the lists.

    for part in slices(data, lists, scores_of_popularity): part.what, part.which, part.rows

Shoppers with and without a history, short and long queries and lists, and whether what was wanted is popular
(head: among the most popular fifth of all candidates) or not (tail).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reshelf.data.schema import RankingList
from reshelf.metrics.bootstrap import interval, resample

_HEAD = 0.8
_MOST_RESAMPLES = 1000


@dataclass(frozen=True)
class Slice:
    """Some of the lists."""

    what: str
    """What they are told apart by."""
    which: str
    """What these have."""
    rows: np.ndarray
    """int64: their places."""


def slices(lists: Sequence[RankingList], popularity: Sequence[np.ndarray] | None) -> list[Slice]:
    """Parts with at least one list; what does not vary over the lists gives none.

    Args:
        popularity: of each candidate, float [K] per list; None for no head and tail.
    """
    found = {
        "history": [_between(len(one.history), (0, 3, 10, 30), "event") for one in lists],
        "query": [_between(len(one.query.split()), (0, 1, 3), "word") for one in lists],
        "candidates": [_between(len(one.candidates), (10, 50, 100), "candidate") for one in lists],
    }
    if popularity is not None:
        found["wanted product"] = _head_and_tail(lists, popularity)
    result = []
    for what, names in found.items():
        there = sorted(set(names) - {(-1, "")})
        if len(there) > 1:
            result += [Slice(what, name[1], np.flatnonzero([one == name for one in names])) for name in there]
    return result


def slice_rows(
    parts: Sequence[Slice], per_list: Mapping[str, np.ndarray], main: str, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Mean of every system in every part, and the paired difference of `main` to each with its 95 % interval.

    Args:
        per_list: system -> float [n_lists], NaN where a list has no value.
    """
    rows = []
    for part in parts:
        known = part.rows[~np.isnan(per_list[main][part.rows])]
        if not len(known):
            continue
        weights = resample(len(known), min(resamples, _MOST_RESAMPLES), seed)
        means = {name: float(values[known].mean()) for name, values in per_list.items()}
        ahead = {
            name: interval(per_list[main][known] - values[known], weights)._asdict()
            for name, values in per_list.items()
            if name != main
        }
        rows.append({"what": part.what, "which": part.which, "lists": len(known), "means": means, "ahead": ahead})
    return rows


def _between(value: int, bounds: Sequence[int], unit: str) -> tuple[int, str]:
    """A number as a range that sorts: up to each bound, or above the last."""
    lowest = 0
    for n, bound in enumerate(bounds):
        if value <= bound:
            return n, (f"no {unit}" if bound == 0 else _range(lowest, bound, unit))
        lowest = bound + 1
    return len(bounds), f"over {bounds[-1]} {unit}s"


def _range(low: int, high: int, unit: str) -> str:
    low = max(low, 1)
    return f"{high} {unit}{'s' if high > 1 else ''}" if low == high else f"{low}–{high} {unit}s"


def _head_and_tail(lists: Sequence[RankingList], popularity: Sequence[np.ndarray]) -> list[tuple[int, str]]:
    """By the most wanted candidate; lists where nothing was wanted are in neither."""
    of_item = {item: float(value) for one, row in zip(lists, popularity) for item, value in zip(one.candidates, row)}
    border = float(np.quantile(list(of_item.values()), _HEAD))
    result = []
    for one, row in zip(lists, popularity):
        wanted = np.asarray(one.utility if one.labels is None else one.labels, dtype=np.float64)
        if not wanted.any():
            result.append((-1, ""))
            continue
        value = float(row[int(np.argmax(wanted))])
        result.append((0, "head") if value > border else (1, "tail"))
    return result

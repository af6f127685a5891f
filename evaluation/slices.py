"""Where a system is good and where it is not: the same metric over parts of the lists.

    for part in slices(lists, scores_of_popularity, "en"): part.what, part.which, part.rows

Shoppers with and without a history, short and long queries and lists, and whether what was wanted is popular
(head: among the most popular fifth of all candidates) or not (tail).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reshelf.data.schema import RankingList
from reshelf.metrics.bootstrap import interval, resample
from reshelf.translation import translations

_HEAD = 0.8
_MOST_RESAMPLES = 1000


@dataclass(frozen=True)
class Slice:
    """Some of the lists."""

    what: str
    """What the slices differ in."""
    which: str
    """What these have."""
    rows: np.ndarray
    """int64: their places."""


def slices(lists: Sequence[RankingList], popularity: Sequence[np.ndarray] | None, language: str = "en") -> list[Slice]:
    """Parts with at least one list; what does not vary over the lists gives none.

    Args:
        popularity: of each candidate, float [K] per list; None for no head and tail.
        language: of the names. Chinese has no spaces between words, so that queries are as long as their characters.
    """
    say = translations(language)
    _ = say.gettext
    over = _("over {n}")

    def events(n: int) -> str:
        return say.ngettext("{range} event", "{range} events", n)

    def words(n: int) -> str:
        return say.ngettext("{range} word", "{range} words", n)

    def letters(n: int) -> str:
        return say.ngettext("{range} character", "{range} characters", n)

    def candidates(n: int) -> str:
        return say.ngettext("{range} candidate", "{range} candidates", n)

    found = {
        _("history"): [_between(len(one.history), (0, 3, 10, 30), _("no event"), events, over) for one in lists],
        _("query"): [
            _between(len("".join(one.query.split())), (0, 4, 8), _("no word"), letters, over)
            if language == "zh"
            else _between(len(one.query.split()), (0, 1, 3), _("no word"), words, over)
            for one in lists
        ],
        _("candidates"): [_between(len(one.candidates), (10, 50, 100), "", candidates, over) for one in lists],
    }
    if popularity is not None:
        sides = _("head"), _("tail")
        found[_("wanted product")] = [
            (side, "" if side < 0 else sides[side]) for side in _head_or_tail(lists, popularity)
        ]
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


def _between(value: int, bounds: Sequence[int], none: str, unit: Callable[[int], str], over: str) -> tuple[int, str]:
    """A number as a range that sorts: up to each bound, or above the last."""
    low = 1
    for n, high in enumerate(bounds):
        if value <= high:
            span = str(high) if low == high else f"{low}–{high}"
            return n, unit(high).format(range=span) if high else none
        low = high + 1
    return len(bounds), unit(bounds[-1]).format(range=over.format(n=bounds[-1]))


def _head_or_tail(lists: Sequence[RankingList], popularity: Sequence[np.ndarray]) -> list[int]:
    """0 for head and 1 for tail, by the most wanted candidate; −1 for lists where nothing was wanted."""
    of_item = {item: float(value) for one, row in zip(lists, popularity) for item, value in zip(one.candidates, row)}
    border = float(np.quantile(list(of_item.values()), _HEAD))
    result = []
    for one, row in zip(lists, popularity):
        wanted = np.asarray(one.utility if one.labels is None else one.labels, dtype=np.float64)
        if not wanted.any():
            result.append(-1)
            continue
        result.append(0 if float(row[int(np.argmax(wanted))]) > border else 1)
    return result

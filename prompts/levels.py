"""Candidate numbers as levels 0 … 20, or more, so that a language model can read and compare them.

levels = fit_levels(train_lists, ["first_stage", "popularity"])
levels.of(ranking)["popularity"]       # int64 [K]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from reshelf.data.schema import RankingList
from reshelf.errors import InputError

TOP = 20
MISSING = "?"
"""What is written in place of a level where the number is not known."""

LEAST_KNOWN = 0.1
"""Share of its numbers that a list must have to be ranked by a model that has seen missing ones: below it the model has
little but text to go by, whose worth differs from shop to shop. Without any number nDCG@10 was 0.04 where the first
stage had 0.21 (Amazon Beauty, 8,323 events; 0.08 with a tenth, 0.14 with half), and 0.81 where it had 0.41 (simulated
shop): no one share is right for both (`benchmarks.data_needed`, `benchmarks.feature_dropout`)."""


@dataclass
class FeatureLevels:
    """Edges between levels by feature name, as found on the training lists. Level 0 is the lowest value seen."""

    edges: dict[str, list[float]] = field(default_factory=dict)
    missing: bool = False
    """Whether the model was trained on numbers that are missing (NaN), which are written as `MISSING`."""

    def of(self, ranking: RankingList) -> dict[str, np.ndarray]:
        """Levels of every feature, int64 [K] each; -1 where a number is missing.

        Raises:
            InputError: the list does not carry a feature that the model reads, or lacks a number of a candidate and
                the model has never seen that.
        """
        found = {}
        for name, edges in self.edges.items():
            values = values_of(ranking, name)
            unknown = np.isnan(values)
            if unknown.any() and not self.missing:
                row = int(unknown.argmax())
                raise InputError(f"list {ranking.list_id}, field {field_of(name)}[{row}]: NaN; give a number")
            found[name] = np.where(unknown, -1, np.searchsorted(edges, values, side="left"))
        return found

    def may_lack(self, numbers: int, candidates: int = 1) -> bool:
        """Whether a list is ranked of which so many numbers are not known, of all candidates together; else it stays in
        first-stage order.

        Examples:
            >>> levels = FeatureLevels({"popularity": [3.0, 20.0], "recent": [1.0, 5.0]}, missing=True)
            >>> levels.may_lack(1), levels.may_lack(2)
            (True, False)
        """
        return self.missing and numbers <= (1 - LEAST_KNOWN) * candidates * len(self.edges)

    def absent(self, name: str) -> float:
        """What stands for a feature's value where it is left out: NaN, or a value in the middle of its levels where
        the model has never seen that one was missing."""
        return float("nan") if self.missing else self.middle(name)

    def middle(self, name: str) -> float:
        """A value in the middle of a feature's levels, which favours no candidate."""
        edges = self.edges[name]
        return edges[len(edges) // 2] if edges else 0.0


def level_text(level: int) -> str:
    """How every template writes a level, with the space before it: one token of a base that `reshelf pretrain` made."""
    return f" {level}"


def field_of(name: str) -> str:
    """Where a list carries a feature: `scores` for first_stage, else `features.NAME`."""
    return "scores" if name == "first_stage" else f"features.{name}"


def values_of(ranking: RankingList, name: str) -> np.ndarray:
    """Raw values of one feature, float64 [K]; `first_stage` means the first-stage scores."""
    values = ranking.scores if name == "first_stage" else ranking.features.get(name)
    if values is None:
        where = f"list {ranking.list_id}, field {field_of(name)}"
        raise InputError(f"{where}: missing, but the prompt's features name {name!r}")
    return np.asarray(values, dtype=np.float64)


def fit_levels(
    lists: Iterable[RankingList], names: Sequence[str], top: int = TOP, missing: bool = False
) -> FeatureLevels:
    """Edges of every feature's levels 0 … `top`, from training lists only.

    Half of them are quantiles of the values above the lowest one, half lie evenly over the whole range: quantiles alone
    would put a number that is nearly always 1 (share of the query's words found) into a single level. Missing numbers
    (NaN) say nothing of them.
    """
    lists = list(lists)
    edges = {}
    for name in names:
        values = np.concatenate([values_of(ranking, name) for ranking in lists]) if lists else np.zeros(0)
        known = values[~np.isnan(values)]
        values = known if len(known) else np.zeros(1)
        low = values.min()
        above = values[values > low]
        half = top // 2
        quantiles = np.quantile(above, np.arange(1, half + 1) / (half + 1)) if len(above) else []
        even = np.linspace(low, values.max(), half + 1)[:-1]
        edges[name] = [float(e) for e in np.unique([*even, *quantiles])]
    return FeatureLevels(edges, missing and bool(names))

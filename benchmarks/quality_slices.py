"""Where a reranker is ahead: with returning shoppers, with new ones, on queries seen before and never.

paired = paired_by_slice(made, data.lists["test"], "reshelf")
paired["no history"]["lambdamart"]        # [mean, low, high, lists]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.quality_systems import Made
from benchmarks.quality_tables import RESAMPLES
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.numbers import every_list_has
from reshelf.evaluation.measure import Truth
from reshelf.metrics.bootstrap import interval, resample

LONG = 5
"""Events from which on a history is long."""


def slices(lists: Sequence[RankingList]) -> dict[str, np.ndarray]:
    """Name -> bool [lists], those that hold a list at all."""
    events = np.array([len(one.history) for one in lists])
    found = {
        "no history": events == 0,
        f"1 to {LONG - 1} events": (events > 0) & (events < LONG),
        f"{LONG} events or more": events >= LONG,
    }
    if every_list_has("query_clicks", lists):
        seen = np.array([any(one.features["query_clicks"]) for one in lists])
        found |= {"query clicked before": seen, "query never clicked": ~seen}
    return {name: mask for name, mask in found.items() if mask.any()}


def other_histories(lists: Sequence[RankingList]) -> list[RankingList]:
    """The same lists, each of a returning shopper with another one's history: what is personal in it is gone."""
    back = [n for n, one in enumerate(lists) if one.history]
    cycle = np.random.default_rng(0).permutation(back)
    moved = dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
    return [
        one.model_copy(update={"history": lists[moved[n]].history}) if n in moved else one
        for n, one in enumerate(lists)
    ]


def paired_by_slice(
    made: Mapping[str, Made], lists: Sequence[RankingList], main: str
) -> dict[str, dict[str, list[float]]]:
    """slice -> system -> [own nDCG@10 of `main` less the system's, low, high, lists]; `main` itself holds its mean."""
    truth = Truth.of(lists)
    values = {name: one.measure(truth, 10).per_list["ndcg@10"] for name, one in made.items()}
    result: dict[str, dict[str, list[float]]] = {}
    for part, mask in slices(lists).items():
        weights = resample(int(mask.sum()), RESAMPLES, 0)
        result[part] = {}
        for name, own in values.items():
            compared = values[main][mask] if name == main else values[main][mask] - own[mask]
            result[part][name] = [*interval(compared, weights), float(mask.sum())]
    return result

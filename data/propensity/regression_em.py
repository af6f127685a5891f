"""Regression EM for examination by place, and the numbers about a candidate that it learns attraction from.

features = candidate_features(lists, items)                     # float64 [N, F], a row per candidate shown
propensities = alternate(features, groups, clicked, seed=0)            # float64 [groups]; propensities[0] is 1

The model is that of Wang et al., "Position bias estimation for unbiased learning to rank in personal search" (WSDM
2018, section 4, "regression EM"). In personal search each shopper sees a product for a query once, so that its
attraction cannot be counted: it is a function a(x) of what is known of shopper, query and product, and
P(click) = p(place) · a(x).

Looks p and attraction a are learned in turns, as there. Each turn maximises the likelihood itself over one of the two
(Poisson in the clicks, which needs the mean p · a and no more) instead of the paper's bound on it:

    a:  scikit-learn's gradient boosting, Poisson loss, target click / p, weight p
    p:  clicks at a place / Σ a(x) over the products shown there, then divided by that of place 1

The paper's own steps lead to the same place, but slowly: a product that was not clicked far down says next to nothing
of its attraction, so that a moves by a small fraction of the way per step, and a search that stops when p stands still
stops beside the start.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError

STEPS = 30
TOLERANCE = 0.004
"""The steps end when no value changes by more."""
KNOWN_PLACE = 0.95
"""Share of the variance of places that features may explain."""
_ATTRIBUTES = 8
_WORD = re.compile(r"\w+")
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def alternate(
    features: Float64,
    groups: Int64,
    clicked: npt.NDArray[np.bool_],
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Float64:
    """Looks by group of places.

    Args:
        features: [N, F], NaN where unknown.
        groups: [N], the group of places a row was shown at, from 0.
        clicked: [N]; every group has a click.
        report: called after every step with its number and the largest change.

    Returns:
        float64 [groups], the first one 1.

    Raises:
        InputError: the features tell the place, so that examination and attraction cannot be told apart.
    """
    n_groups = int(groups.max()) + 1
    if n_groups == 1:
        return np.ones(1)
    _check_places_vary(features, groups, seed)
    clicks = np.bincount(groups[clicked], minlength=n_groups).astype(np.float64)
    propensities = clicks / np.bincount(groups)
    propensities /= propensities[0]
    useful = features[:, _varies(features)] if _varies(features).any() else np.zeros((len(groups), 1))
    for step in range(1, STEPS + 1):
        p = propensities[groups]
        model = _model("poisson", seed, len(groups)).fit(useful, clicked / p, sample_weight=p)
        before, propensities = propensities, clicks / np.bincount(groups, model.predict(useful))
        propensities /= propensities[0]
        change = float(np.abs(propensities - before).max())
        if report is not None:
            report(step, change)
        if change < TOLERANCE:
            break
    return propensities


def _model(loss: Literal["poisson", "squared_error"], seed: int, n: int) -> HistGradientBoostingRegressor:
    """Small trees with large leaves: what learns single rows by heart keeps the p that it started from."""
    return HistGradientBoostingRegressor(
        loss=loss, max_iter=50, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=max(20, n // 300),
        early_stopping=False, random_state=seed,
    )  # fmt: skip


def _check_places_vary(features: Float64, groups: Int64, seed: int) -> None:
    half = np.arange(len(groups)) < len(groups) // 2
    columns = _varies(features[half])
    if len(groups) < 200 or np.ptp(groups[~half]) == 0 or not columns.any():
        return
    known = features[:, columns]
    model = _model("squared_error", seed, int(half.sum())).fit(known[half], groups[half])
    score = model.score(known[~half], groups[~half])
    if score > KNOWN_PLACE:
        raise InputError(
            f"what is known of a candidate tells its place ({score:.0%} of the variance), so that examination "
            "cannot be told from attraction; leave out features that hold the place, or show some lists in random order"
        )


def _varies(features: Float64) -> npt.NDArray[np.bool_]:
    """Columns with two different known values; the trees have no use for the others, and fail where all is unknown."""
    low = np.where(np.isnan(features), np.inf, features).min(axis=0)
    high = np.where(np.isnan(features), -np.inf, features).max(axis=0)
    return np.asarray(high > low)


def candidate_features(lists: Sequence[RankingList], items: Mapping[str, Item]) -> Float64:
    """What is known of every candidate, whatever its place; float64 [N, F], all lists one after the other.

    The first-stage score and the list's own features as they are (not relative to the list, which would tell the rank);
    price and its level, rating and its count; the share of the query's words in title, brand and category; and of the
    shopper's history, how many items, the mean price level, and which share has the candidate's brand, leaf category
    and common attributes.
    """
    counts = Counter(name for item in items.values() for name in item.attributes)
    common = [name for name, _ in counts.most_common(_ATTRIBUTES)]
    named = sorted({name for ranking in lists for name in ranking.features})
    facts = {key: _facts(item, common) for key, item in items.items()}
    words = {key: _words(" ".join((item.title, item.brand or "", *item.category))) for key, item in items.items()}
    result = np.full((sum(len(r.candidates) for r in lists), 4 + 1 + 1 + 2 + 2 + len(common) + len(named)), np.nan)
    row = 0
    for ranking in lists:
        past = [facts[e.item_id] for e in ranking.history if e.item_id is not None]
        kinds = [Counter(fact[1][k] for fact in past) for k in range(2 + len(common))]
        levels = [level for fact in past if not np.isnan(level := fact[0][1])]
        query = _words(ranking.query)
        general = [float(len(past)), float(np.mean(levels)) if levels else np.nan]
        for i, candidate in enumerate(ranking.candidates):
            numbers, values = facts[candidate]
            matched = sum(word in words[candidate] for word in query) / len(query) if query else np.nan
            score = ranking.scores[i] if ranking.scores is not None else np.nan
            shares = [
                np.nan if value is None or not past else kinds[k][value] / len(past) for k, value in enumerate(values)
            ]
            own = [ranking.features[name][i] if name in ranking.features else np.nan for name in named]
            result[row] = [*numbers, score, matched, *general, *shares, *own]
            row += 1
    return result


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _facts(item: Item, common: Sequence[str]) -> tuple[tuple[float, float, float, float], list[str | None]]:
    """An item's numbers, and its brand, leaf category and common attributes."""

    def known(value: float | None) -> float:
        return np.nan if value is None else float(value)

    numbers = (known(item.price), known(item.price_level), known(item.rating), known(item.rating_count))
    kinds = [item.brand, item.category[-1] if item.category else None, *(item.attributes.get(n) for n in common)]
    return numbers, kinds

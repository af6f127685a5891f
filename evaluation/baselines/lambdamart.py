"""LambdaMART (LightGBM) over the numbers of a list: what shops with a learned ranker run today.

    system = LambdaMart();  system.fit(data);  system.scores(data, lists)

Burges, "From RankNet to LambdaRank to LambdaMART", 2010. Tree sizes, and whether trees are fitted to the order of
lists (lambdarank) or to single products (cross_entropy), are chosen on the validation lists, with early stopping: by
nDCG@10, or by AUC over all rows where validation lists hold one candidate each.

A missing number (NaN) goes where the missing ones of training went. Where none was missing, LightGBM would read 0, so
that a product without a price were the cheapest: it gets the median of training instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import MAX_GRADE, RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import Numbers
from reshelf.evaluation.baselines.selection import SelectionMetric

Table = Callable[[RankingList], np.ndarray]
LEAVES = (7, 31)
OBJECTIVES = ("lambdarank", "cross_entropy")
_TOP_GAIN = 2.0**MAX_GRADE - 1
_ROUNDS, _PATIENCE, _RATE = 1500, 40, 0.06
_COMMON = {
    "learning_rate": _RATE, "min_data_in_leaf": 50, "lambda_l2": 5.0, "feature_fraction": 0.8,
    "bagging_fraction": 0.8, "bagging_freq": 1, "lambdarank_truncation_level": 20, "label_gain": [0, 1, 3, 7],
    "num_threads": 1, "deterministic": True, "verbosity": -1,
}  # fmt: skip


@dataclass
class LambdaMart:
    """Gradient-boosted trees; the same seed gives the same trees."""

    seed: int = 0
    name: str = "lambdamart"
    chosen: dict[str, Any] = field(default_factory=dict)
    """What the search chose."""

    def fit(self, data: RankingData, advance: Callable[[int], None] | None = None) -> None:
        """Train on `data.lists["train"]`, choose on `data.lists["valid"]`."""
        self._table = Numbers.of(data.lists["train"], data.items).table
        self._model, self.chosen = fit_trees(self._table, data.lists["train"], data.lists["valid"], self.seed)

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list."""
        return predict(self._model, self._table, lists)


@dataclass(frozen=True)
class Trees:
    """What `fit_trees` returns."""

    booster: Any
    instead: np.ndarray
    """What a missing number is read as, float64 [columns]; NaN where training rows lack some too."""

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Raw scores, float64 [rows]."""
        raw = self.booster.predict(_filled(rows, self.instead), raw_score=True)
        return np.asarray(raw, dtype=np.float64)


def fit_trees(
    table: Table,
    train: Sequence[RankingList],
    valid: Sequence[RankingList],
    seed: int,
    chosen: Mapping[str, Any] | None = None,
) -> tuple[Trees, dict[str, Any]]:
    """The best of a small search, and what it was: objective, leaves, trees and the metric on `valid`.

    Args:
        chosen: what an earlier search chose, to leave out the search.

    Raises:
        InputError: lightgbm is not installed.
    """
    try:
        import lightgbm as lgb
    except ImportError as error:
        raise InputError("LambdaMART needs lightgbm; install it with `pip install reshelf[baselines]`") from error

    train, valid = ([one for one in lists if one.labels is not None] for lists in (train, valid))
    rows = np.concatenate([table(one) for one in train])
    instead = np.median(rows, axis=0)  # NaN for a column that has one
    held = _filled(np.concatenate([table(one) for one in valid]), instead)
    sizes, held_sizes = ([len(one.candidates) for one in lists] for lists in (train, valid))
    labels, held_labels = (np.concatenate([np.asarray(one.labels) for one in lists]) for lists in (train, valid))
    metric = SelectionMetric([one.labels or () for one in valid])
    best: tuple[float, Trees, dict[str, Any]] | None = None
    search = product(OBJECTIVES, LEAVES) if chosen is None else [(chosen["objective"], chosen["leaves"])]
    for objective, leaves in search:
        settings = _COMMON | {"objective": objective, "num_leaves": leaves, "seed": seed, "metric": "None"}
        # Grades for lists; gains between 0 and 1 for single products.
        target = labels if objective == "lambdarank" else (2.0**labels - 1) / _TOP_GAIN
        fitted = lgb.Dataset(rows, target, group=sizes)
        watched: dict[str, Any] = {}
        model = lgb.train(
            settings, fitted, _ROUNDS, [lgb.Dataset(held, group=held_sizes, label=held_labels * 0, reference=fitted)],
            ["valid"], feval=lambda scores, _: ("metric", metric(scores), True),
            callbacks=[lgb.early_stopping(_PATIENCE, verbose=False), lgb.record_evaluation(watched)],
        )  # fmt: skip
        reached = max(watched["valid"]["metric"])
        facts = {"objective": objective, "leaves": leaves, "trees": model.best_iteration, "valid": reached}
        if best is None or reached > best[0]:
            best = reached, Trees(model, instead), facts
    assert best is not None
    return best[1], best[2]


def predict(model: Trees, table: Table, lists: Sequence[RankingList]) -> list[np.ndarray]:
    """Raw scores of the trees, float64 [K] per list."""
    sizes = [len(one.candidates) for one in lists]
    return np.split(model.predict(np.concatenate([table(one) for one in lists])), np.cumsum(sizes)[:-1])


def _filled(rows: np.ndarray, instead: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(rows), instead, rows)

"""All metrics of several systems on the same lists, with intervals: from scores to the numbers of a report.

    truth = Truth.of(lists)
    measured = {name: measure(scores, truth, k=10) for name, scores in scored.items()}
    numbers = summarise(measured, truth, k=10, resamples=1000, seed=0)

nDCG gains are the lists' `utility` where they have one (linear), otherwise 2 ** label - 1. MRR, recall, AUC and UAUC
look at labels only: relevant is what reaches `relevance_threshold` of the evaluated set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from reshelf.data.schema import MAX_GRADE, RankingList
from reshelf.errors import InputError
from reshelf.metrics.auc import auc, auc_by_user
from reshelf.metrics.bootstrap import auc_interval, interval, resample
from reshelf.metrics.mrr import reciprocal_rank
from reshelf.metrics.ndcg import exponential_gains, ndcg
from reshelf.metrics.ordering import unranked
from reshelf.metrics.recall import recall


@dataclass(frozen=True)
class Truth:
    """What the lists of one set are measured against. Either `utility` or `labels` is there, or both."""

    users: list[str]
    labels: list[np.ndarray] | None
    """int64 [K] per list."""
    utility: list[np.ndarray] | None
    """float64 [K] per list."""
    relevant_from: int
    """The smallest label that counts as relevant."""

    @classmethod
    def of(cls, lists: Sequence[RankingList]) -> Truth:
        """Collect it from lists.

        Raises:
            InputError: some lists have labels (or utility) and others have not, or none has either, or none has
                anything to find.
        """
        if not lists:
            raise InputError("there are no lists to evaluate")
        for name in ("labels", "utility"):
            without = [one.list_id for one in lists if getattr(one, name) is None]
            if 0 < len(without) < len(lists):
                raise InputError(
                    f"list {without[0]!r}, field {name}: it is missing while other lists have it; "
                    "give it to all lists of the split or to none"
                )
        labels = [np.asarray(one.labels) for one in lists] if lists[0].labels is not None else None
        utility = [np.asarray(one.utility, dtype=np.float64) for one in lists] if lists[0].utility is not None else None
        if labels is None and utility is None:
            raise InputError(
                f"list {lists[0].list_id!r}, field labels: it is missing, so there is nothing to measure against; "
                "give a split with labels"
            )
        if utility is not None and min(values.min() for values in utility) < 0:
            bad = next(one.list_id for one, values in zip(lists, utility) if values.min() < 0)
            raise InputError(f"list {bad!r}, field utility: a value is below zero; give an expected utility in [0, 1]")
        gains, name = (labels, "labels") if utility is None else (utility, "utility")
        if not any(one.any() for one in gains or ()):
            raise InputError(
                f"field {name}: no list has a value above 0, so no order is better than another; evaluate other lists"
            )
        threshold = relevance_threshold(labels) if labels is not None else 1
        return cls([one.user_id for one in lists], labels, utility, threshold)


@dataclass
class Measurement:
    """One system's numbers. Metrics of a list are NaN where the list has nothing to find."""

    per_list: dict[str, np.ndarray] = field(default_factory=dict)
    """Metric name -> float64 [n_lists]; the mean is the metric."""
    per_user: dict[str, np.ndarray] = field(default_factory=dict)
    """Metric name -> float64 [n_users], the same for metrics that are means over users."""
    auc: float | None = None
    """Over all rows; None where only one of the two labels occurs."""
    scores: Sequence[np.ndarray] = ()
    """float64 [K] per list, as measured; the AUC's interval needs the rows."""
    unranked: int = 0
    """Lists whose scores are all equal; their metrics are the mean over all orders."""


def relevance_threshold(labels: Iterable[Sequence[int] | np.ndarray]) -> int:
    """The smallest label that counts as relevant for MRR, recall, AUC and UAUC.

    One rule for a whole set: the highest grade (3, purchase) where any list of the set has one, otherwise 1
    (anything the shopper touched). All systems on a set are measured with the same threshold.

    Examples:
        >>> relevance_threshold([[0, 1], [0, 3]]), relevance_threshold([[0, 1], [2, 0]])
        (3, 1)
    """
    return MAX_GRADE if any(max(one, default=0) >= MAX_GRADE for one in labels) else 1


def measure(scores: Sequence[np.ndarray], truth: Truth, k: int) -> Measurement:
    """All metrics of one system, those of `reshelf.metrics`.

    Args:
        scores: one float [K] per list, in the order of `truth`.
        k: ranks that count for nDCG and recall.
    """
    result = Measurement(scores=scores, unranked=sum(map(unranked, scores)))
    result.per_list[f"ndcg@{k}"] = ndcg_per_list(scores, truth, k)
    if truth.labels is None:
        return result
    if truth.utility is not None:
        result.per_list[f"label_ndcg@{k}"] = ndcg_per_list(scores, replace(truth, utility=None), k)
    least = truth.relevant_from
    result.per_list |= {
        "mrr": _over(scores, truth.labels, lambda own, labels: reciprocal_rank(own, labels, least)),
        f"recall@{k}": _over(scores, truth.labels, lambda own, labels: recall(own, labels, k, least)),
    }
    whole = auc(np.concatenate(scores), np.concatenate(truth.labels), least)
    result.auc = None if np.isnan(whole) else whole
    result.per_user["uauc"] = np.array(list(auc_by_user(scores, truth.labels, truth.users, least).values()))
    return result


def ndcg_per_list(scores: Sequence[np.ndarray], truth: Truth, k: int) -> np.ndarray:
    """The report's main metric, float64 [n_lists]; NaN where a list has nothing to find."""
    if truth.utility is not None:
        return _over(scores, truth.utility, lambda own, utility: ndcg(own, utility, k))
    assert truth.labels is not None
    return _over(scores, truth.labels, lambda own, labels: ndcg(own, exponential_gains(labels), k))


def _over(
    scores: Sequence[np.ndarray], truth: Sequence[np.ndarray], metric: Callable[[np.ndarray, np.ndarray], float]
) -> np.ndarray:
    return np.array([metric(own, wanted) for own, wanted in zip(scores, truth, strict=True)])


def summarise(
    measured: Mapping[str, Measurement], truth: Truth, k: int, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Means, 95 % intervals, paired differences to `first_stage`, and the share of the distance to the best order.

    Returns:
        systems: name -> metric -> mean (None where no list has a value);
        intervals: name -> metric -> [low, high];
        difference_to_first_stage: name -> metric -> {"mean", "low", "high"}, paired by list;
        gap_closed: name -> share of the distance from first_stage to best_possible in nDCG@k (1 is best_possible);
        unranked: name -> lists whose scores are all equal, which count as in random order;
        skipped: metric -> lists (users for uauc) without a value.
    """
    weights = resample(len(truth.users), resamples, seed)
    n_users = len(set(truth.users))
    user_weights = resample(n_users, resamples, seed)
    rows_of = np.repeat(np.arange(len(truth.users)), [len(s) for s in next(iter(measured.values())).scores])
    relevant = np.concatenate(truth.labels) >= truth.relevant_from if truth.labels is not None else None
    first = measured.get("first_stage")
    systems: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for name, one in measured.items():
        found = {metric: interval(values, weights) for metric, values in one.per_list.items()}
        if relevant is not None:
            bounds = auc_interval(np.concatenate(one.scores), relevant, rows_of, weights)
            found["auc"] = bounds._replace(mean=float("nan") if one.auc is None else one.auc)
        found |= {metric: interval(values, user_weights) for metric, values in one.per_user.items()}
        known = {metric: value for metric, value in found.items() if not np.isnan(value.mean)}
        systems[name] = {metric: known[metric].mean if metric in known else None for metric in found}
        intervals[name] = {metric: [value.low, value.high] for metric, value in known.items()}
        if first is not None and one is not first:
            paired = {
                metric: interval(one.per_list[metric] - first.per_list[metric], weights) for metric in one.per_list
            }
            paired |= {m: interval(one.per_user[m] - first.per_user[m], user_weights) for m in one.per_user}
            differences[name] = {m: value._asdict() for m, value in paired.items() if not np.isnan(value.mean)}
    any_one = next(iter(measured.values()))
    return {
        "systems": systems,
        "intervals": intervals,
        "difference_to_first_stage": differences,
        "gap_closed": gap_closed(systems, f"ndcg@{k}"),
        "unranked": {name: one.unranked for name, one in measured.items()},
        "skipped": {m: int(np.isnan(v).sum()) for m, v in (any_one.per_list | any_one.per_user).items()},
    }


def gap_closed(systems: Mapping[str, Mapping[str, float | None]], metric: str) -> dict[str, float]:
    """(system - first_stage) / (best_possible - first_stage) for every other system; empty where that is not known."""
    first = systems.get("first_stage", {}).get(metric)
    best = systems.get("best_possible", {}).get(metric)
    if first is None or best is None or best <= first:
        return {}
    return {
        name: (value - first) / (best - first)
        for name, means in systems.items()
        if name not in ("first_stage", "best_possible") and (value := means.get(metric)) is not None
    }

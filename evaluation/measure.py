"""All metrics of several systems on the same lists, with intervals: from scores to the numbers of a report.

    truth = Truth.of(lists)
    measured = {name: measure(scores, truth, k=10) for name, scores in scored.items()}
    numbers = summarise(measured, truth, k=10, resamples=1000, seed=0)

nDCG gains are the lists' `utility` where they have one (linear), otherwise 2 ** label - 1. MRR, recall, AUC and UAUC
look at labels only: relevant is what reaches `relevance_threshold` of the evaluated set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.metrics.auc import Auc
from reshelf.metrics.bootstrap import Interval, auc_interval, interval, resample
from reshelf.metrics.mrr import Mrr
from reshelf.metrics.ndcg import Ndcg
from reshelf.metrics.ordering import relevance_threshold
from reshelf.metrics.recall import Recall
from reshelf.metrics.uauc import Uauc


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
            InputError: some lists have labels (or utility) and others have not, or none has either.
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
        threshold = relevance_threshold(values.tolist() for values in labels) if labels is not None else 1
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


def measure(scores: Sequence[np.ndarray], truth: Truth, k: int) -> Measurement:
    """All metrics of one system, computed by the `evaluate` metrics of `reshelf.metrics`.

    Args:
        scores: one float [K] per list, in the order of `truth`.
        k: places that count for nDCG and recall.
    """
    result = Measurement(scores=scores)
    if truth.utility is not None:
        values = Ndcg(keep_in_memory=True).compute(predictions=scores, references=truth.utility, k=k, gain="linear")
        result.per_list[f"ndcg@{k}"] = np.array(values["per_list"])
    if truth.labels is None:
        return result
    values = Ndcg(keep_in_memory=True).compute(predictions=scores, references=truth.labels, k=k)
    name = f"ndcg@{k}" if truth.utility is None else f"label_ndcg@{k}"
    result.per_list[name] = np.array(values["per_list"])
    inputs = {"predictions": scores, "references": truth.labels, "relevant_from": truth.relevant_from}
    result.per_list["mrr"] = np.array(Mrr(keep_in_memory=True).compute(**inputs)["per_list"])
    result.per_list[f"recall@{k}"] = np.array(Recall(keep_in_memory=True).compute(**inputs, k=k)["per_list"])
    result.auc = Auc(keep_in_memory=True).compute(**inputs, within_lists=False)["auc"]
    by_user = Uauc(keep_in_memory=True).compute(**inputs, users=truth.users)["per_user"]
    result.per_user["uauc"] = np.array(list(by_user.values()))
    return result


def summarise(
    measured: Mapping[str, Measurement], truth: Truth, k: int, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Means, 95 % intervals, paired differences to `first_stage`, and the share of the distance to the best order.

    Returns:
        systems: name -> metric -> mean (None where no list has a value);
        intervals: name -> metric -> [low, high];
        difference_to_first_stage: name -> metric -> {"mean", "low", "high"}, paired by list;
        gap_closed: name -> share of the distance from first_stage to best_possible in nDCG@k (1 is best_possible);
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
            differences[name] = {m: _named(value) for m, value in paired.items() if not np.isnan(value.mean)}
    any_one = next(iter(measured.values()))
    return {
        "systems": systems,
        "intervals": intervals,
        "difference_to_first_stage": differences,
        "gap_closed": gap_closed(systems, f"ndcg@{k}"),
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


def _named(value: Interval) -> dict[str, float]:
    return value._asdict()

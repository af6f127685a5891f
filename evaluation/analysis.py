"""The part of a report that people act on: what is sure, where it holds, what moved, what went wrong.

report |= analyse(config, scored, measured, truth, lists, data, "en")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.propensity.file import read_propensities
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.first_stage import FirstStage
from reshelf.evaluation.baselines.numbers import every_list_has
from reshelf.evaluation.baselines.popularity import FEATURE, Popularity
from reshelf.evaluation.beyond_accuracy import top_k_quality
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.counterfactual import snips_dcg
from reshelf.evaluation.measure import Measurement, Truth, ndcg_per_list
from reshelf.evaluation.movement import movement, moves
from reshelf.evaluation.personalization import personalization_curve
from reshelf.evaluation.slices import slice_rows, slices
from reshelf.evaluation.worst_lists import worst_lists
from reshelf.metrics.bootstrap import resample
from reshelf.metrics.paired import paired

_WORST = 5
_BINS = 10


def analyse(
    config: EvaluateConfig,
    scored: Mapping[str, Sequence[np.ndarray]],
    measured: Mapping[str, Measurement],
    truth: Truth,
    lists: Sequence[RankingList],
    data: RankingData,
    language: str,
) -> dict[str, Any]:
    """Everything beyond the table.

    Args:
        language: of the names of parts of the lists and of events.

    Returns:
        main: the system that all the rest is about, `finetuned` where there is one, otherwise the best that reads no
            truth;
        significance: other system -> its paired difference to main in nDCG@k (`paired.paired`);
        slices: rows of `slices.slice_rows`;
        top_k: system -> `beyond_accuracy.top_k_quality`;
        movement: what main is compared with (first_stage, without_history) -> `movement.movement`;
        personalization: `personalization.personalization_curve` of main; None where main is the first stage;
        moves: how many candidates went up by how many places from the first stage, as [[places, candidates], …];
        counterfactual: system -> SNIPS DCG@k as [mean, low, high], and how much higher it is than the first stage's;
            None without propensities, or a label above 0;
        calibration: of main's probabilities, None where it gives none;
        worst: rows of `worst_lists.worst_lists`.
    """
    metric = f"ndcg@{config.k}"
    per_list = {name: one.per_list[metric] for name, one in measured.items()}
    main = main_system(per_list)
    weights = resample(len(lists), config.resamples, config.seed)
    first = FirstStage().scores(data, lists)
    before = measured.get("first_stage")
    compared = {"first_stage": first}
    if main == "finetuned" and "without_history" in scored:
        compared["without_history"] = list(scored["without_history"])
    step = np.unique(moves(scored[main], first), return_counts=True)
    counted = every_list_has(FEATURE, lists) or bool(data.lists.get("train"))
    popularity = Popularity().scores(data, lists) if counted else None
    return {
        "main": main,
        "significance": {
            name: paired(per_list[main], values, weights, config.seed)
            for name, values in per_list.items()
            if name != main
        },
        "slices": slice_rows(slices(lists, popularity, language), per_list, main, config.resamples, config.seed),
        "top_k": {
            name: top_k_quality(scores, lists, data.items, config.k, truth.relevant_from)
            for name, scores in scored.items()
        },
        "movement": {name: movement(scored[main], other, config.k) for name, other in compared.items()},
        "personalization": None
        if main == "first_stage"
        else personalization_curve(
            scored[main],
            first,
            np.array([bool(one.history) for one in lists]),
            lambda scores: ndcg_per_list(scores, truth, config.k),
            config.k,
        ),
        "counterfactual": None
        if config.propensities is None
        else _counterfactual(scored, first, lists, read_propensities(config.propensities), config.k, weights),
        "moves": [[int(places), int(n)] for places, n in zip(*step)],
        "calibration": calibration(config, main, scored[main], truth),
        "worst": []
        if before is None or main == "first_stage"
        else worst_lists(per_list[main], before.per_list[metric], scored[main], lists, data.items, _WORST, language),
    }


def _counterfactual(
    scored: Mapping[str, Sequence[np.ndarray]], first: Sequence[np.ndarray], lists: Sequence[RankingList],
    propensities: np.ndarray, k: int, weights: np.ndarray,
) -> dict[str, dict[str, list[float]]] | None:  # fmt: skip
    before = snips_dcg(first, lists, propensities, k)
    if not before.weights.any():
        return None
    found = {name: snips_dcg(scores, lists, propensities, k) for name, scores in scored.items()}
    return {
        name: {"estimate": [*one.interval(weights)], "gain": [*one.gain_over(before, weights)]}
        for name, one in found.items()
    }


def main_system(per_list: Mapping[str, np.ndarray]) -> str:
    """`finetuned`; without one, the best of those that do not read the truth."""
    if "finetuned" in per_list:
        return "finetuned"
    fair = {name: values for name, values in per_list.items() if name not in ("best_possible", "random")} or per_list
    return max(fair, key=lambda name: float(np.nan_to_num(fair[name]).mean()))


def calibration(config: EvaluateConfig, main: str, scores: Sequence[np.ndarray], truth: Truth) -> dict[str, Any] | None:
    """How true the shown probabilities are: expected calibration error over ten bins of equal size (Naeini et al., AAAI
    2015, there of equal width), Brier score, and the bins. Equal probabilities are in one bin, or the error would hang
    on the order of the rows. "Wanted" is a label above 0, as when they were fitted."""
    if main != "finetuned" or config.model is None or truth.labels is None:
        return None
    from reshelf.modeling.spec import read_spec

    fitted = read_spec(config.model, config.trust_remote_code).calibration
    if fitted is None:
        return None
    predicted = fitted.probability(np.concatenate(scores))
    wanted = (np.concatenate(truth.labels) > 0).astype(np.float64)
    bins = np.searchsorted(np.sort(predicted), predicted) * _BINS // len(predicted)
    rows = [
        [float(predicted[b].mean()), float(wanted[b].mean()), int(b.sum())] for b in bins == np.unique(bins)[:, None]
    ]
    return {
        "ece": sum(n * abs(mean - share) for mean, share, n in rows) / len(predicted),
        "brier": float(((predicted - wanted) ** 2).mean()),
        "bins": rows,
    }

"""What the metric scripts share: inputs as sequences per list, and a mean over lists as a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from reshelf.metrics.ordering import Scores, unranked


def lists_info(description: str, inputs: str, references: str = "int64", **more: str) -> evaluate.MetricInfo:
    """What a metric over lists tells `evaluate`: scores and references are one sequence per list.

    Args:
        references: dtype of the labels or gains.
        more: further inputs, one value per list, by name and dtype.
    """
    features = {
        "predictions": datasets.Sequence(datasets.Value("float64")),
        "references": datasets.Sequence(datasets.Value(references)),
        **{name: datasets.Value(dtype) for name, dtype in more.items()},
    }
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description=inputs, features=datasets.Features(features)
    )


def over_lists(name: str, per_list: Sequence[float], predictions: Sequence[Scores]) -> dict[str, Any]:
    """A result from the values of the lists: the mean of those that are not NaN, `per_list`, `skipped`, `unranked`."""
    return {
        name: mean_or_none(per_list),
        "per_list": per_list,
        "skipped": int(np.isnan(per_list).sum()),
        "unranked": sum(map(unranked, predictions)),
    }


def mean_or_none(values: Sequence[float] | np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None where there is none (NaN is no JSON)."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else None

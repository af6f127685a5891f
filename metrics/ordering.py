"""What all metrics share: their inputs, how scores become an order, what a gain is, and what counts as relevant.

pseudo = rank_scores([0.5, 0.9, 0.5])   # -> tensor [2., 3., 1.]: the tie keeps first-stage order
gains = exponential_gains([0, 3, 1])    # -> [0., 7., 1.]
relevance_threshold([[0, 1], [0, 3]])   # -> 3: the set has purchases, so a purchase is what counts
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import datasets
import evaluate
import numpy as np
import torch

from reshelf.data.schema import MAX_GRADE


def order(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Indices of the candidates, best first, int64 [K]; equal scores keep first-stage order."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def rank_scores(scores: Sequence[float] | np.ndarray) -> torch.Tensor:
    """Strictly decreasing stand-ins for scores, so that no library has a tie left to break in its own way.

    Candidates come in first-stage order and the sort is stable, so equal scores keep first-stage order.

    Args:
        scores: [K] float, higher is better, in first-stage order.

    Returns:
        float32 [K]: K for the best candidate down to 1 for the last (torchmetrics leaves out scores that are not
        above zero).

    Raises:
        ValueError: there are no scores, or one is NaN or infinite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"scores of one list must be a non-empty sequence of numbers, not of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"score {int(np.argmin(np.isfinite(values)))} is NaN or infinite")
    stand_ins = torch.empty(len(values))
    stand_ins[order(values)] = torch.arange(len(values), 0, -1, dtype=torch.float32)
    return stand_ins


def exponential_gains(labels: Sequence[float] | np.ndarray) -> np.ndarray:
    """Graded labels [K] as nDCG gains `2 ** label - 1`, float64 [K]."""
    return np.exp2(np.asarray(labels, dtype=np.float64)) - 1.0


def relevance_threshold(labels: Iterable[Sequence[int]]) -> int:
    """The smallest label that counts as relevant for MRR, recall, AUC and UAUC.

    One rule for a whole set: the highest grade (3, purchase) where any list of the set has one, otherwise 1
    (anything the shopper touched). All systems on a set are measured with the same threshold.
    """
    return MAX_GRADE if any(max(one, default=0) >= MAX_GRADE for one in labels) else 1


def mean_or_none(values: Sequence[float] | np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None where there is none (NaN is no JSON)."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else None


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

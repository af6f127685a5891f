"""From raw scores to probabilities that people can read: fitted on validation lists, stored in `reshelf.json`.

    calibration = fit_calibration(scores, wanted, "isotonic")
    calibration.probability(scores)        # float64, in [0, 1]

The order of candidates never comes from it: ranking uses the raw score.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from reshelf.errors import InputError

Method = Literal["isotonic", "platt"]


@dataclass
class Calibration:
    """How likely a candidate of a score is wanted (label above 0).

    Examples:
        >>> Calibration("platt", slope=2.0).probability(np.array([0.0, 1.0])).round(3).tolist()
        [0.5, 0.881]
    """

    method: Method = "isotonic"
    scores: list[float] = field(default_factory=list)
    """Isotonic: scores in rising order, …"""
    probabilities: list[float] = field(default_factory=list)
    """… and their probabilities, never falling; straight lines in between, level outside."""
    slope: float = 1.0
    """Platt: sigmoid(slope · score + intercept)."""
    intercept: float = 0.0

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of raw scores of any shape, float64 of the same shape."""
        scores = np.asarray(scores, dtype=np.float64)
        if self.method == "isotonic":
            return np.interp(scores, self.scores, self.probabilities)
        return sigmoid(self.slope * scores + self.intercept)


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Probabilities, float64 of the same shape; neither end overflows."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds.astype(np.float64)))


def fit_calibration(scores: np.ndarray, wanted: np.ndarray, method: Method = "isotonic") -> Calibration:
    """Fit on candidates that were not trained on.

    Args:
        scores: float [N], raw.
        wanted: bool [N], or float [N] in [0, 1].
        method: isotonic (Zadrozny and Elkan, KDD 2002) needs some thousand candidates; platt (Platt 1999, with his
            targets (N₊ + 1)/(N₊ + 2) and 1/(N₋ + 2)) has two parameters.

    Raises:
        InputError: there is nothing to learn from: all are wanted, or none is.

    Examples:
        >>> scores, wanted = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True])
        >>> fit_calibration(scores, wanted, "isotonic").probability(np.array([-3.0, 0.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    scores, wanted = np.asarray(scores, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if not len(wanted) or wanted.min() == wanted.max():
        raise InputError(
            "calibration needs validation candidates that were wanted and ones that were not; "
            "give valid.parquet lists with both, or set calibration to none"
        )
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, wanted)
        return Calibration("isotonic", fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist())
    from sklearn.linear_model import LogisticRegression

    positives = wanted.sum()
    negatives = len(wanted) - positives
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    # A soft target t is a positive that weighs t and a negative that weighs 1 − t.
    targets = wanted * high + (1 - wanted) * low
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(
        np.concatenate([scores, scores])[:, None],
        np.repeat([1, 0], len(scores)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    return Calibration("platt", slope=float(model.coef_[0, 0]), intercept=float(model.intercept_[0]))

"""Numbers as a small network likes them.

    scale = Scale.of(train_table);  scale(table)                      # float32 [n, scale.width]

Each column that varies gives three: standardised and cut at ±4, its place among the training values from −1 to 1
(which heavy tails cannot stretch), and, where it was sometimes missing, whether it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_KNOTS, _CUT = 257, 4.0


@dataclass(frozen=True)
class Scale:
    """What is known of the columns of a table."""

    columns: np.ndarray
    """int64 [C]: columns that varied."""
    gaps: np.ndarray
    """int64 [G]: columns that were sometimes missing."""
    mean: np.ndarray
    """float64 [C]"""
    deviation: np.ndarray
    """float64 [C], above 0"""
    knots: np.ndarray
    """float64 [C, 257]: quantiles of the values that were there."""

    @classmethod
    def of(cls, table: np.ndarray) -> Scale:
        """From float64 [n, F] with NaN for missing."""
        missing = np.isnan(table)
        gaps = np.flatnonzero(missing.any(0) & ~missing.all(0))
        columns = [n for n in range(table.shape[1]) if len(np.unique(table[~missing[:, n], n])) > 1]
        found = [table[~missing[:, n], n] for n in columns]
        return cls(
            np.array(columns, dtype=np.int64),
            gaps,
            np.array([values.mean() for values in found]),
            np.array([max(values.std(), 1e-12) for values in found]),
            np.array([np.quantile(values, np.linspace(0, 1, _KNOTS)) for values in found]),
        )

    @property
    def width(self) -> int:
        return 2 * len(self.columns) + len(self.gaps)

    def __call__(self, table: np.ndarray) -> np.ndarray:
        """float32 [n, width]; a missing value is 0 in both forms, the middle."""
        result = np.zeros((len(table), self.width), dtype=np.float32)
        for n, column in enumerate(self.columns):
            values = table[:, column]
            there = ~np.isnan(values)
            with np.errstate(over="ignore"):  # what overflows is cut
                standard = (values[there] - self.mean[n]) / self.deviation[n]
            result[there, 2 * n] = np.clip(standard, -_CUT, _CUT)
            # Equal values share the middle of their knots.
            sides = [np.searchsorted(self.knots[n], values[there], side) for side in ("left", "right")]
            result[there, 2 * n + 1] = (sides[0] + sides[1]) / _KNOTS - 1
        result[:, 2 * len(self.columns) :] = np.isnan(table[:, self.gaps])
        return result

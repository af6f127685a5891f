"""How much of an order is the model's and how much the first stage's: one weight from 0 to 1.

    values = blend(scores, 0.7)
    order = best_first(values)

Both are put on the model's own scale: the first stage's place j stands for the list's j-th highest score. So only the
order of the first stage counts, whose scores are on no scale that a model's could be added to, and the weight means the
same for every list and every calibration.
"""

from __future__ import annotations

import numpy as np

from reshelf.metrics.ordering import unranked

WEIGHTS = tuple(n / 10 for n in range(11))
"""Those that are tried where one is looked for."""


def blend(scores: np.ndarray, personalization: float) -> np.ndarray:
    """Values to order by, float64 [K].

    Args:
        scores: float [K], raw log-odds in first-stage order.
        personalization: 0 gives exactly first-stage order, 1 exactly the model's.

    Examples:
        >>> scores = np.array([0.0, 3.0, 1.0])
        >>> blend(scores, 0.0).tolist(), blend(scores, 0.5).tolist(), blend(scores, 1.0).tolist()
        ([3.0, 1.0, 0.0], [1.5, 2.0, 0.5], [0.0, 3.0, 1.0])
    """
    values = np.asarray(scores, dtype=np.float64)
    return personalization * values + (1 - personalization) * np.sort(values)[::-1]


def measured(scores: np.ndarray, personalization: float) -> np.ndarray:
    """`blend` for metrics: a list whose scores do not differ is served in first-stage order below a weight of 1, and is
    measured as that, not as unranked.

    Examples:
        >>> measured(np.zeros(3), 0.5).tolist(), measured(np.zeros(3), 1.0).tolist()
        ([-0.0, -1.0, -2.0], [0.0, 0.0, 0.0])
    """
    if personalization < 1 and unranked(scores):
        return -np.arange(len(scores), dtype=np.float64)
    return blend(scores, personalization)

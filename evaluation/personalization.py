"""What the weight of `modeling.blend` costs and gains: nDCG and how much moves, from first-stage order to the model's.

curve = personalization_curve(scores, first_stage, warm, ndcg_of, k=10)
curve["recommended"]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reshelf.evaluation.movement import movement
from reshelf.modeling.blend import WEIGHTS, measured


def personalization_curve(
    scores: Sequence[np.ndarray], first_stage: Sequence[np.ndarray], warm: np.ndarray,
    ndcg_of: Callable[[Sequence[np.ndarray]], np.ndarray], k: int,
) -> dict[str, Any]:  # fmt: skip
    """Every weight, and the one to begin with: the smallest that is within one standard error of the best (Breiman et
    al., Classification and Regression Trees, 1984, section 3.4.3), paired by list: no product moves for nothing.

    Args:
        scores: of the model, float [K] per list, in first-stage order.
        first_stage: what orders that as it is.
        warm: bool [n_lists], whose shopper has a history.
        ndcg_of: nDCG@k per list of scores, float [n_lists], NaN where a list has nothing to find.
        k: places that count.

    Returns:
        rows: weight, ndcg, warm, cold (mean nDCG@k; None without such lists), replaced and lists_changed (`movement`);
        recommended: a weight.
    """
    rows, per_list = [], []
    for weight in WEIGHTS:
        blended = [measured(values, weight) for values in scores]
        found = ndcg_of(blended)
        per_list.append(found)
        moved = movement(blended, first_stage, k)
        rows.append(
            {
                "weight": weight, "ndcg": _mean(found), "warm": _mean(found[warm]), "cold": _mean(found[~warm]),
                "replaced": moved["replaced"], "lists_changed": moved["lists_changed"],
            }
        )  # fmt: skip
    known = ~np.isnan(per_list[0])
    means = [float(one[known].mean()) if known.any() else 0.0 for one in per_list]
    best = int(np.argmax(means))

    def near(n: int) -> bool:
        behind = (per_list[best] - per_list[n])[known]
        return not len(behind) or behind.mean() <= behind.std() / np.sqrt(len(behind))

    return {"rows": rows, "recommended": next(weight for n, weight in enumerate(WEIGHTS) if n == best or near(n))}


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None

"""Is training still worth anything? Numbers that are none end it; scores that hardly differ are warned about.

check_step(step, loss_is_finite, gradient_norm, checkpoints)
spread = median_spread(scores_of_lists)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reshelf.errors import DivergedError

LEAST_SPREAD = 1e-3
"""Log-odds. Engines agree within so much, so an order that rests on less is another one on another engine."""


def check_step(step: int, loss_is_finite: bool, gradient_norm: float, checkpoints: Path) -> None:
    """Before the optimizer moves a weight by it.

    Args:
        step: the step that is being made, from 1.
        gradient_norm: over all trained weights, before clipping.
        checkpoints: folder of the run's checkpoints, which the message names the last of.

    Raises:
        DivergedError: loss or gradients are NaN or infinite.
    """
    if not loss_is_finite:
        raise diverged(step, "the loss is NaN or infinite", checkpoints)
    if not math.isfinite(gradient_norm):
        raise diverged(step, "the gradients are NaN or infinite", checkpoints)


def median_spread(scores: Sequence[np.ndarray]) -> float:
    """Median over lists of the standard deviation of their scores, in log-odds.

    Lists of one candidate have none; where there are no others, it is the deviation over all of them.

    Examples:
        >>> median_spread([np.array([0.0, 2.0]), np.array([1.0, 1.0]), np.array([3.0, 5.0])])
        1.0
        >>> median_spread([np.array([0.0]), np.array([2.0])])
        1.0
    """
    spreads = [float(np.std(one)) for one in scores if len(one) > 1]
    return float(np.median(spreads)) if spreads else float(np.std(np.concatenate(scores)))


def diverged(step: int, what: str, checkpoints: Path) -> DivergedError:
    """The error that ends a run: what happened at which step, what was kept, and what to do."""
    steps = [int(folder.name.removeprefix("checkpoint-")) for folder in checkpoints.glob("checkpoint-*")]
    kept = f"the last good checkpoint, of step {max(steps)}, is kept in {checkpoints}" if steps else "nothing was saved"
    return DivergedError(
        f"step {step}: {what}, so training ended, and {kept}; train anew in another folder with a lower "
        "optimizer.learning_rate or more warm-up (optimizer.warmup_share)"
    )

"""The mean that every loss ends with: over what a list teaches.

    counts = with_positive(labels, mask)
    value = weighted_mean(per_list, weights, counts)

Each loss has one of the four functions for how much a list counts, and training needs the same one to put together the
mean of a step from forward passes that hold unlike shares of it.
"""

from __future__ import annotations

import torch

from reshelf.data.schema import MAX_GRADE


def weighted_mean(per_list: torch.Tensor, weights: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Σ w·c·l / Σ w·c, float32 scalar; 0 (with gradient 0) where no list teaches anything.

    Args:
        per_list: float32 [B], finite also for lists that teach nothing.
        weights: float32 [B].
        counts: float32 [B] from one of the functions below, 0 for lists that teach nothing.
    """
    weights = weights * counts
    return (weights * per_list).sum() / weights.sum().clamp_min(1e-12)


def with_positive(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 for a list that has a label above 0, else 0; labels and mask [B, K], result float32 [B]."""
    return ((labels > 0) & mask).any(1).float()


def with_two_grades(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 for a list whose labels differ, else 0: only such a list has an order."""
    highest, lowest = labels.masked_fill(~mask, 0).amax(1), labels.masked_fill(~mask, MAX_GRADE).amin(1)
    return (highest > lowest).float()


def with_two_candidates(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 for a list of at least two candidates, else 0; labels are not looked at."""
    return (mask.sum(1) > 1).float()


def candidates(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Number of candidates: each of them counts alike, whatever list it is in; labels are not looked at."""
    return mask.sum(1).float()

"""What every loss ends with: a weighted sum over the lists that teach something, and the sum of their weights.

    return weighted_sum(per_list, weights, with_positive(labels, mask))

A mean over the lists of an optimizer step cannot be put together from the means of its forward passes, nor of its
processes, when these hold unlike shares of what teaches. So losses return both sums, and the trainer divides once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from reshelf.data.schema import MAX_GRADE


class LossSum(NamedTuple):
    """A loss before it is divided.

    Examples:
        >>> from reshelf.finetune.losses.listnet import listnet
        >>> scores, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3, 0], [0, 0]])
        >>> found = listnet(scores, labels, torch.ones(2, 2, dtype=torch.bool), torch.ones(2), torch.ones(2, 2))
        >>> found.weight.item()  # the second list has no positive label and teaches nothing
        1.0
        >>> round(found.mean().item(), 3)
        0.127
    """

    sum: torch.Tensor
    """float32 scalar, Σ weight · count · loss over the lists; 0, with gradient 0, where none teaches anything."""
    weight: torch.Tensor
    """float32 scalar, Σ weight · count over them; it depends on labels, mask and weights, never on scores."""

    def mean(self) -> torch.Tensor:
        """sum / weight, float32 scalar; 0 (with gradient 0) where nothing teaches."""
        return self.sum / self.weight.clamp_min(1e-12)


def weighted_sum(per_list: torch.Tensor, weights: torch.Tensor, counts: torch.Tensor) -> LossSum:
    """Σ w·c·l and Σ w·c.

    Args:
        per_list: float32 [B], finite also for lists that teach nothing.
        weights: float32 [B].
        counts: float32 [B] from one of the functions below, 0 for lists that teach nothing.
    """
    weights = weights * counts
    return LossSum((weights * per_list).sum(), weights.sum())


def with_positive(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 for a list that has a label above 0, else 0; labels and mask [B, K], result float32 [B]."""
    return ((labels > 0) & mask).any(1).float()


def with_two_grades(labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 for a list whose labels differ, else 0: only such a list has an order."""
    highest, lowest = labels.masked_fill(~mask, 0).amax(1), labels.masked_fill(~mask, MAX_GRADE).amin(1)
    return (highest > lowest).float()


def with_two_candidates(mask: torch.Tensor) -> torch.Tensor:
    """1 for a list of at least two candidates, else 0."""
    return (mask.sum(1) > 1).float()


def candidates(mask: torch.Tensor) -> torch.Tensor:
    """Number of candidates: each of them counts alike, whatever list it is in."""
    return mask.sum(1).float()

"""Distillation by softmax: the student's share of the list for each candidate becomes the teacher's.

loss = kl(scores, teacher, mask, weights, temperature=2.0)
"""

from __future__ import annotations

import torch

from reshelf.finetune.losses.weighted_sum import LossSum, weighted_sum, with_two_candidates


def kl(
    scores: torch.Tensor,
    teacher: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    temperature: float = 1.0,
) -> LossSum:
    """T² · KL(softmax(t / T) ‖ softmax(s / T)) over a list's candidates.

    Use it to learn a teacher's order and how sure it is of it, whatever the scale of its scores: an ensemble, a larger
    cross-encoder, LambdaMART. It goes with any loss on labels (`distil.weight`); temperatures of 1 to 4 are usual.

    Hinton et al. (2015, arXiv 1503.02531, section 2): both are softened alike, and T² keeps the gradient's size. A high
    temperature makes the candidates at the bottom count too.

    Args:
        scores: float32 [B, K], raw log-odds.
        teacher: float32 [B, K].
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list.
        temperature: T, above 0.

    Returns:
        Sum over the lists that have two candidates, and their weight.

    Examples:
        >>> scores, teacher = torch.tensor([[0.5, 2.0, -1.0]]), torch.tensor([[0.0, 3.0, 0.0]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(kl(scores, teacher, mask, torch.ones(1)).mean().item(), 3)
        0.078
    """
    student, wanted = (_log_softmax(values.float() / temperature, mask) for values in (scores, teacher))
    per_list = (wanted.exp() * (wanted - student)).masked_fill(~mask, 0.0).sum(1) * temperature**2
    return weighted_sum(per_list, weights, with_two_candidates(mask))


def _log_softmax(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Over real candidates; 0 elsewhere."""
    return values.masked_fill(~mask, torch.finfo(torch.float32).min).log_softmax(1).masked_fill(~mask, 0.0)

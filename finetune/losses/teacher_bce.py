"""Distillation candidate by candidate: the student's probability becomes the teacher's.

loss = teacher_bce(scores, teacher, mask, weights)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from reshelf.finetune.losses.weighted_sum import LossSum, candidates, weighted_sum


def teacher_bce(scores: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> LossSum:
    """Over all candidates, −[p·log σ(s) + (1 − p)·log(1 − σ(s))], with p = σ(teacher).

    Use it for a teacher whose probabilities are calibrated, when scores must be probabilities too: it goes with `bce`
    on the labels. For a teacher's order alone take `kl`.

    Hinton et al. (2015, arXiv 1503.02531, section 2) with two classes. Teacher and scores must both be log-odds. Every
    candidate weighs the same, as in `bce`, and a list of one candidate teaches too.

    Args:
        scores: float32 [B, K], raw log-odds.
        teacher: float32 [B, K], log-odds.
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list: of each of its candidates.

    Returns:
        Sum over all candidates, and the weight of all candidates.

    Examples:
        >>> scores, teacher = torch.tensor([[0.5, 2.0, -1.0]]), torch.tensor([[0.0, 3.0, 0.0]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(teacher_bce(scores, teacher, mask, torch.ones(1)).mean().item(), 3)
        0.586
    """
    scores = scores.float()
    each = (-F.logsigmoid(-scores) - torch.sigmoid(teacher.float()) * scores).masked_fill(~mask, 0.0)
    counts = candidates(mask)
    return weighted_sum(each.sum(1) / counts.clamp_min(1), weights, counts)

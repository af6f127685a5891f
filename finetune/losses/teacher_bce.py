"""Distillation candidate by candidate: the student's probability becomes the teacher's.

loss = teacher_bce(scores, teacher, mask, weights)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from reshelf.finetune.losses.mean import candidates, weighted_mean


def teacher_bce(scores: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over all candidates of −[p·log σ(s) + (1 − p)·log(1 − σ(s))], with p = σ(teacher).

    Hinton et al. (2015, arXiv 1503.02531, section 2) with two classes. Teacher and scores must both be log-odds. Every
    candidate weighs the same, as in `bce`, and a list of one candidate teaches too.

    Args:
        scores: float32 [B, K], raw log-odds.
        teacher: float32 [B, K], log-odds.
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list: of each of its candidates.

    Returns:
        Weighted mean over all candidates, float32 scalar; 0 (with gradient 0) where none has weight.
    """
    scores = scores.float()
    each = (-F.logsigmoid(-scores) - torch.sigmoid(teacher.float()) * scores).masked_fill(~mask, 0.0)
    counts = candidates(teacher, mask)
    return weighted_mean(each.sum(1) / counts.clamp_min(1), weights, counts)

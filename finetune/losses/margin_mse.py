"""Margin-MSE: differences between candidates as the teacher has them.

loss = margin_mse(scores, teacher, mask, weights)
"""

from __future__ import annotations

import torch

from reshelf.finetune.losses.mean import weighted_mean, with_two_candidates


def margin_mse(scores: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over all pairs of a list's candidates of ((s_i − s_j) − (t_i − t_j))².

    Hofstätter et al. (2020, arXiv 2010.02666), over all pairs instead of one positive and one negative. With
    e = s − t that is 2 · Σ (e_k − mean e)² / (K − 1): no pairs need to be made. Teacher and scores must have one scale.

    Args:
        scores: float32 [B, K], raw log-odds.
        teacher: float32 [B, K].
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list.

    Returns:
        Weighted mean over the lists that have two candidates, float32 scalar; 0 (with gradient 0) where none has.
    """
    error = (scores.float() - teacher.float()).masked_fill(~mask, 0.0)
    n = mask.sum(1)
    off = (error - error.sum(1, keepdim=True) / n.clamp_min(1)[:, None]).masked_fill(~mask, 0.0)
    per_list = 2 * off.square().sum(1) / (n - 1).clamp_min(1)
    return weighted_mean(per_list, weights, with_two_candidates(teacher, mask))

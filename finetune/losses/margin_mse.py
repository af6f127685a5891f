"""Margin-MSE: differences between candidates as the teacher has them.

loss = margin_mse(scores, teacher, mask, weights)
"""

from __future__ import annotations

import torch

from reshelf.finetune.losses.weighted_sum import LossSum, weighted_sum, with_two_candidates


def margin_mse(scores: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> LossSum:
    """Mean over all pairs of a list's candidates of ((s_i − s_j) − (t_i − t_j))².

    Use it where the teacher's scores are log-odds on the same scale, such as another cross-encoder's: the student
    learns how far apart candidates are. For a teacher on another scale take `kl`.

    Hofstätter et al. (2020, arXiv 2010.02666), over all pairs instead of one positive and one negative. With
    e = s − t that is 2 · Σ (e_k − mean e)² / (K − 1): no pairs need to be made. Teacher and scores must have one scale.

    Args:
        scores: float32 [B, K], raw log-odds.
        teacher: float32 [B, K].
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list.

    Returns:
        Sum over the lists that have two candidates, and their weight.

    Examples:
        >>> scores, teacher = torch.tensor([[0.5, 2.0, -1.0]]), torch.tensor([[0.0, 3.0, 0.0]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(margin_mse(scores, teacher, mask, torch.ones(1)).mean().item(), 3)
        1.5
    """
    error = (scores.float() - teacher.float()).masked_fill(~mask, 0.0)
    n = mask.sum(1)
    off = (error - error.sum(1, keepdim=True) / n.clamp_min(1)[:, None]).masked_fill(~mask, 0.0)
    per_list = 2 * off.square().sum(1) / (n - 1).clamp_min(1)
    return weighted_sum(per_list, weights, with_two_candidates(mask))

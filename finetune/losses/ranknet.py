"""RankNet: every pair of a list in the right order.

loss = ranknet(scores, labels, mask, weights, inverse_propensity)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from reshelf.finetune.losses.weighted_sum import LossSum, weighted_sum, with_two_grades


def ranknet(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
) -> LossSum:
    """Mean over a list's pairs with label_i > label_j of −w_i · log σ(s_i − s_j).

    Use it where labels say which of two candidates was preferred, and little more; every pair costs the same, at the
    top and at the bottom. `lambda_loss` weighs pairs by what they are worth to nDCG.

    The cost C_ij of Burges et al. (ICML 2005) with target probability 1. The pair is weighted by the inverse propensity
    of the candidate that was preferred, as in propensity SVM-rank (Joachims et al., WSDM 2017); the mean divides by the
    number of pairs, not by Σ w.

    Args:
        scores: float32 [B, K], raw log-odds.
        labels: [B, K], grades 0 … 3.
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list.
        inverse_propensity: float32 [B, K], 1 where unknown.

    Returns:
        Sum over the lists that have two grades, and their weight.

    Examples:
        >>> scores = torch.tensor([[0.5, 2.0, -1.0]])
        >>> labels = torch.tensor([[0, 3, 1]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(ranknet(scores, labels, mask, torch.ones(1), torch.ones(1, 3)).mean().item(), 3)
        0.65
    """
    scores = scores.float().masked_fill(~mask, 0.0)
    pairs = (labels[:, :, None] > labels[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    each = -F.logsigmoid(scores[:, :, None] - scores[:, None, :]) * inverse_propensity[:, :, None]
    count = pairs.sum((1, 2))
    per_list = each.masked_fill(~pairs, 0.0).sum((1, 2)) / count.clamp_min(1)
    return weighted_sum(per_list, weights, with_two_grades(labels, mask))

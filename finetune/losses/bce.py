"""Binary cross-entropy: each candidate on its own.

loss = bce(scores, labels, mask, weights, inverse_propensity)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from reshelf.data.schema import MAX_GRADE
from reshelf.finetune.losses.weighted_sum import LossSum, candidates, weighted_sum


def bce(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
) -> LossSum:
    """Over all candidates, −[w·t·log σ(s) + (1 − w·t)·log(1 − σ(s))], with targets t = label / 3.

    Use it where scores must be probabilities of each candidate alone: lists of one candidate, thresholds, offers mixed
    from several lists, AUC as the goal (`metric: auc`). It also learns from lists without a positive label, which other
    losses leave out. For the order within a list `listnet` is the better choice.

    A grade is a share of a purchase, so that the score becomes the log-odds of the graded relevance. Every candidate
    weighs the same however long its list is, and lists without a positive label teach as well: what is learned is one
    scale for all rows, which is what an AUC over all of them measures.

    The inverse propensities w give the unbiased pointwise loss of Saito et al. (WSDM 2020): the ideal loss with Y/θ in
    the place of relevance. In expectation w·t is a probability; for one click it may be above 1, and then the
    value can fall below 0. The gradient stays within the largest w.

    Args:
        scores: float32 [B, K], raw log-odds.
        labels: [B, K], grades 0 … 3.
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list: of each of its candidates.
        inverse_propensity: float32 [B, K], 1 where unknown.

    Returns:
        Sum over all candidates, and the weight of all candidates.

    Examples:
        >>> scores = torch.tensor([[0.5, 2.0, -1.0]])
        >>> labels = torch.tensor([[0, 3, 1]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(bce(scores, labels, mask, torch.ones(1), torch.ones(1, 3)).mean().item(), 3)
        0.583
    """
    targets = inverse_propensity * labels.float() / MAX_GRADE
    scores = scores.float()
    # log(1 − σ(s)) = log σ(s) − s takes the two logarithms together: −log σ(−s) − w·t·s.
    each = (-F.logsigmoid(-scores) - targets * scores).masked_fill(~mask, 0.0)
    counts = candidates(mask)
    return weighted_sum(each.sum(1) / counts.clamp_min(1), weights, counts)

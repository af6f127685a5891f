"""Binary cross-entropy: each candidate on its own.

loss = bce(scores, labels, mask, weights, inverse_propensity)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from reshelf.data.schema import MAX_GRADE
from reshelf.finetune.losses.mean import candidates, weighted_mean


def bce(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
) -> torch.Tensor:
    """Mean over all candidates of −[w·t·log σ(s) + (1 − w·t)·log(1 − σ(s))], with targets t = label / 3.

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
        Weighted mean over all candidates, float32 scalar; 0 (with gradient 0) where none has weight.
    """
    targets = inverse_propensity * labels.float() / MAX_GRADE
    scores = scores.float()
    # log(1 − σ(s)) = log σ(s) − s takes the two logarithms together: −log σ(−s) − w·t·s.
    each = (-F.logsigmoid(-scores) - targets * scores).masked_fill(~mask, 0.0)
    counts = candidates(labels, mask)
    return weighted_mean(each.sum(1) / counts.clamp_min(1), weights, counts)

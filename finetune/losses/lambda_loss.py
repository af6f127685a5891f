"""LambdaLoss: pairs in the right order, each weighted by what it is worth to nDCG.

loss = lambda_loss(scores, labels, mask, weights, inverse_propensity)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from reshelf.finetune.losses.weighted_sum import LossSum, weighted_sum, with_two_grades

MU = 10.0


def lambda_loss(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
    mu: float = MU,
) -> LossSum:
    """NDCG-Loss2++: −Σ over pairs with label_i > label_j of w_i · (ρ_ij + μ·δ_ij) · |G_i − G_j| · log₂ σ(s_i − s_j).

    Use it with graded labels when nDCG near the top is the goal, and to go on from a model trained with `listnet` or
    `ranknet`: its weights follow the current order, which is noise at the start. Its memory is K² per list.

    Wang et al. (CIKM 2018): with i, j also for the places that the current scores give (no gradient goes
    through them), D_i = log₂(1 + i), ρ_ij = |1/D_i − 1/D_j| and δ_ij = |1/D_|i−j| − 1/D_(|i−j|+1)|; the gains G =
    (2^label − 1) / maxDCG of the list. Where scores are equal, the lower label is counted as standing before the
    higher one, so that the order of candidates does not matter. The pair is weighted by the inverse propensity of the
    candidate that was preferred, as in `ranknet`; maxDCG is not.

    Args:
        scores: float32 [B, K], raw log-odds.
        labels: [B, K], grades 0 … 3.
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list.
        inverse_propensity: float32 [B, K], 1 where unknown.
        mu: weight of δ.

    Returns:
        Sum over the lists that have two grades, and their weight.

    Examples:
        >>> scores = torch.tensor([[0.5, 2.0, -1.0]])
        >>> labels = torch.tensor([[0, 3, 1]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(lambda_loss(scores, labels, mask, torch.ones(1), torch.ones(1, 3)).mean().item(), 3)
        2.411
    """
    scores = scores.float().masked_fill(~mask, 0.0)
    gains = (torch.exp2(labels.float()) - 1) * mask
    places = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    ideal = (gains.sort(1, descending=True).values / _discount(places)).sum(1)
    gains = gains / ideal.clamp_min(1e-12)[:, None]
    with torch.no_grad():
        rank = _ranks(scores, labels, mask, inverse_propensity)
        apart = (rank[:, :, None] - rank[:, None, :]).abs().clamp_min(1)  # a candidate is no pair with itself
        rho = (1 / _discount(rank)[:, :, None] - 1 / _discount(rank)[:, None, :]).abs()
        delta = 1 / _discount(apart) - 1 / _discount(apart + 1)
        stake = (rho + mu * delta) * (gains[:, :, None] - gains[:, None, :]).abs() * inverse_propensity[:, :, None]
    pairs = (labels[:, :, None] > labels[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    each = -F.logsigmoid(scores[:, :, None] - scores[:, None, :]) / math.log(2) * stake
    per_list = each.masked_fill(~pairs, 0.0).sum((1, 2))
    return weighted_sum(per_list, weights, with_two_grades(labels, mask))


def _discount(places: torch.Tensor) -> torch.Tensor:
    return torch.log2(1 + places.float())


def _ranks(
    scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor, inverse_propensity: torch.Tensor
) -> torch.Tensor:
    """Places 1 … K by falling score, padding last, int64 [B, K]; what looks alike in all of them is interchangeable."""
    order = torch.arange(scores.shape[1], device=scores.device).expand_as(labels)
    # The last key sorted by is the first that counts.
    for key in (inverse_propensity, labels, -scores, ~mask):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order.argsort(1) + 1

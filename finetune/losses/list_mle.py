"""ListMLE: how likely the order by label is, if places are filled one by one with chances e^score.

loss = list_mle(scores, labels, mask, weights, inverse_propensity)
loss = position_aware_list_mle(scores, labels, mask, weights, inverse_propensity)

Labels hardly ever order a whole list. What that means for both losses:

- Candidates without a label have no order among themselves. They stand behind all others, and the places they fill
  cost nothing: this is the likelihood of the part of the order that is known. A list with one positive gives the usual
  softmax loss.
- Candidates that share a grade above 0 could fill their places in any order. The mean over these orders is taken as
  Efron (JASA 1977) does for ties in Cox's partial likelihood, which is the same likelihood: at the l-th of d tied
  places, l/d of the tied candidates' sum of e^score is gone. No draw is needed, and the order in the list
  does not matter.
"""

from __future__ import annotations

import torch

from reshelf.data.schema import MAX_GRADE
from reshelf.finetune.losses.weighted_sum import LossSum, weighted_sum, with_two_grades


def list_mle(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
) -> LossSum:
    """−Σ_i w_i · log P(candidate at place i | those before it), with P = e^s_i / Σ_(j not before i) e^s_j.

    Use it where labels order whole lists or long parts of them, such as a teacher's order cut into grades. With one
    positive per list it is `listnet`.

    The likelihood loss of Xia et al. (ICML 2008). A candidate's term is weighted by its inverse propensity.

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
        >>> round(list_mle(scores, labels, mask, torch.ones(1), torch.ones(1, 3)).mean().item(), 3)
        1.943
    """
    places = torch.ones_like(scores, dtype=torch.float32)
    return _likelihood(scores, labels, mask, weights, inverse_propensity, places)


def position_aware_list_mle(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
) -> LossSum:
    """`list_mle` with the i-th of n places weighted by α(i) = 2^(n−i) − 1, over the sum of all α.

    Use it instead of `list_mle` where the top of the order matters most. Lan et al. (UAI 2014). Arguments and result as
    for `list_mle`.

    Examples:
        >>> scores = torch.tensor([[0.5, 2.0, -1.0]])
        >>> labels = torch.tensor([[0, 3, 1]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(position_aware_list_mle(scores, labels, mask, torch.ones(1), torch.ones(1, 3)).mean().item(), 3)
        0.606
    """
    n = mask.sum(1, keepdim=True)
    i = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    alpha = (torch.exp2(-i.float()) - torch.exp2(-n.float())).clamp_min(0)  # over 2^n, which would overflow
    places = alpha / alpha.sum(1, keepdim=True).clamp_min(1e-12)
    return _likelihood(scores, labels, mask, weights, inverse_propensity, places)


def _likelihood(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
    places: torch.Tensor,
) -> LossSum:
    """Both losses; `places` float32 [B, K] is the weight of the first place, the second, …"""
    scores = scores.float().masked_fill(~mask, 0.0)
    at = torch.arange(scores.shape[1], device=scores.device).expand_as(labels)
    per_list = torch.zeros_like(scores[:, 0])
    for grade in range(1, MAX_GRADE + 1):
        tied = (labels == grade) & mask
        d = tied.sum(1, keepdim=True)
        before = ((labels > grade) & mask).sum(1, keepdim=True)
        mine = at < d  # of the places from 0 on, those that these candidates share, once the earlier ones are taken
        place = torch.where(mine, places.gather(1, (before + at).clamp_max(scores.shape[1] - 1)), 0.0)
        left = torch.log1p(-torch.minimum(at, (d - 1).clamp_min(0)) / d.clamp_min(1))
        still = torch.logaddexp(left + _log_sum(scores, tied), _log_sum(scores, (labels < grade) & mask))
        # Mean over the places of each candidate: it is at any of them with chance 1/d.
        each = ((place * still).sum(1, keepdim=True) - place.sum(1, keepdim=True) * scores) / d.clamp_min(1)
        per_list = per_list + (each * inverse_propensity).masked_fill(~tied, 0.0).sum(1)
    return weighted_sum(per_list, weights, with_two_grades(labels, mask))


def _log_sum(scores: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """log Σ e^score over `of`, float32 [B, 1]; where that is empty a number too low to count, with gradient 0."""
    return scores.masked_fill(~of, torch.finfo(torch.float32).min / 2).logsumexp(1, keepdim=True)

"""ListNet: softmax cross-entropy between graded gains and scores over one list.

loss = listnet(scores, labels, mask, weights, inverse_propensity)
"""

from __future__ import annotations

import torch

from reshelf.finetune.losses.weighted_sum import LossSum, weighted_sum, with_positive


def listnet(
    scores: torch.Tensor,
    labels: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    inverse_propensity: torch.Tensor,
) -> LossSum:
    """Top-one cross-entropy, −Σ_k w_k · t_k · log softmax(s)_k, with targets t_k = g_k / Σ g and gains g = 2^label − 1.

    Use it first: it suits one purchase or click per list as well as grades, looks at all candidates at once, and costs
    no pairs. Lists need one label above 0 and should hold the candidates that were shown, not drawn at random.

    The gains stand in for the exponentials of Cao et al. (ICML 2007, eq. 4), so that an unlabelled candidate has target
    zero and a list with one positive gives the usual softmax loss (Bruch et al., ICTIR 2019). The inverse propensities
    w stay out of Σ g: there they would cancel in a list with one click, which is most of them.

    Args:
        scores: float32 [B, K], raw log-odds.
        labels: [B, K], grades 0 … 3.
        mask: bool [B, K], True for real candidates.
        weights: float32 [B], weight of each list.
        inverse_propensity: float32 [B, K], 1 where unknown.

    Returns:
        Sum over the lists that have a positive label, and their weight.

    Examples:
        >>> scores = torch.tensor([[0.5, 2.0, -1.0]])
        >>> labels = torch.tensor([[0, 3, 1]])
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> round(listnet(scores, labels, mask, torch.ones(1), torch.ones(1, 3)).mean().item(), 3)
        0.616
    """
    gains = (torch.exp2(labels.float()) - 1) * mask
    total = gains.sum(1)
    # A finite stand-in for −∞ keeps 0 · log 0 out of the sum.
    log_p = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min).log_softmax(1).masked_fill(~mask, 0.0)
    per_list = -(gains * inverse_propensity * log_p).sum(1) / total.clamp_min(1e-12)
    return weighted_sum(per_list, weights, with_positive(labels, mask))

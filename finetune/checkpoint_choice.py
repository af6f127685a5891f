"""Which checkpoint is kept: among those within a standard error of the best, that of the lowest validation loss.

A metric over few lists is mostly noise, and its best of ten validations is the luckiest one; the loss, which every
candidate's score moves, is steadier. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3, let
the simpler model win within one standard error of the best; here it is the one of lower loss. Over thousands of lists
the error is so small that the metric decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def kept_checkpoint(validations: Sequence[Mapping[str, float]], metric: str) -> int:
    """Number of the validation whose checkpoint is kept, where each is kept or dropped as it comes.

    Args:
        validations: in the order of training, each with `eval_loss`, `metric` and its standard error, `metric_error`.
        metric: e.g. eval_ndcg@10; higher is better.

    Examples:
        The third is within 0.02 of the first, at a lower loss; the fourth has a lower loss still, and is too low.

        >>> values, losses = [0.83, 0.80, 0.82, 0.79], [3.52, 3.53, 3.51, 3.50]
        >>> kept_checkpoint([{"eval_ndcg@10": value, "eval_ndcg@10_error": 0.02, "eval_loss": loss}
        ...                  for value, loss in zip(values, losses)], "eval_ndcg@10")
        2
    """
    kept = best = 0
    for n, one in enumerate(validations):
        if one[metric] > validations[best][metric]:
            best = n
        least = validations[best][metric] - validations[best][f"{metric}_error"]
        before = validations[kept]
        if one[metric] >= least and (before[metric] < least or one["eval_loss"] < before["eval_loss"]):
            kept = n
    return kept

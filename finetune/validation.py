"""nDCG@10, SNIPS DCG@10, AUC and loss on validation lists, during training; their scores, after it.

validation = Validation(dataset)
validation.measure(model, 16, loss=listnet, device="cpu")   # {"eval_loss": …, "eval_ndcg@10": …}
validation.scores(model, 16, device="cpu")                  # float32 [K] per list of validation.every
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from reshelf.errors import DivergedError
from reshelf.finetune.batches import Batch, Example, ListDataset, collate, padded
from reshelf.finetune.distributed import share
from reshelf.finetune.health import median_spread
from reshelf.finetune.losses.weighted_sum import LossSum
from reshelf.metrics.auc import auc, auc_error
from reshelf.metrics.bootstrap import CONFIDENCE, interval, resample
from reshelf.metrics.ndcg import exponential_gains, mean_discount, ndcg
from reshelf.metrics.ordering import unranked
from reshelf.modeling.blend import WEIGHTS, measured
from reshelf.modeling.lift import LIST_METRICS, Blended, Lift
from reshelf.modeling.score import score

Metric = Literal["ndcg@10", "dcg@10", "auc"]
METRIC_NAMES: dict[str, str] = {**LIST_METRICS, "auc": "AUC"}
"""As people write them."""
METRIC = "eval_ndcg@10"
CORRECTED = "eval_dcg@10"
AUC = "eval_auc"
UNRANKED = "eval_unranked"
"""Lists whose scores do not differ; nDCG counts them as in random order (`metrics.ordering.unranked`)."""
SPREAD = "eval_spread"
ERROR = "_error"
"""Behind a metric's name: its standard error over validation lists."""
CUT = 10
_RESAMPLES = 2000
_FEWEST = 30
"""Lists that a weight is looked for over; the bootstrap's interval over fewer is too narrow."""


class Validation:
    """Validation lists.

    Args:
        dataset: lists with labels.
        metric: what will be looked at. ndcg@10 leaves out lists without a positive label, which cannot be ordered
            rightly or wrongly; auc ranks the candidates of all lists in one row, where lists may hold one each. dcg@10,
            for a dataset with propensities, is the self-normalised estimate of `evaluation.counterfactual`: nDCG
            of clicks as they are favours the order that was shown, whose first places are examined most.
    """

    def __init__(self, dataset: ListDataset, metric: Metric = "ndcg@10") -> None:
        self.metric = metric
        self.every = [dataset[n] for n in range(len(dataset))]
        """All lists."""
        self.examples = self.every if metric == "auc" else [e for e in self.every if e.labels.any()]
        """Those that the metric is of."""

    @torch.no_grad()
    def measure(
        self,
        model: Any,
        batch_size: int,
        loss: Callable[..., LossSum],
        device: torch.device | str,
    ) -> dict[str, float]:
        """Mean loss on labels, nDCG@10 over the lists with a positive label, and what else `metric` is: dcg@10, or the
        AUC of label > 0 over all candidates; how many lists are unranked, and how much scores differ within a list
        (`health.median_spread`). With `ERROR` behind a metric's name, its standard error. `model` is left in evaluation
        mode.

        Several processes share the lists; each returns the same numbers, those of all lists.

        Raises:
            DivergedError: a score is NaN or infinite, so that its list has no order, or the loss is; in all processes.
        """
        losses, rows = [], []
        for _, mine, batch, grid in _scored(model, self.examples, batch_size, device):
            if mine:
                part = loss(grid, batch.labels, batch.mask, batch.weights, batch.inverse_propensity)
                losses.append((float(part.sum), float(part.weight)))
            for row, example in zip(grid.cpu().numpy(), mine):
                rows.append((example.prompt.list_id, row[: len(example.labels)], example.labels, _gains(example)))
        losses, rows = gather_object(losses), gather_object(rows)
        _check_finite([(list_id, found) for list_id, found, *_ in rows])
        total, weight = (sum(column) for column in zip(*losses, strict=True))
        if not np.isfinite(total):  # of scores near the largest float32; no checkpoint's loss compares with it
            raise DivergedError("the validation loss is NaN or infinite")
        values = [ndcg(found, exponential_gains(labels), CUT) for _, found, labels, _ in rows if labels.any()]
        scored = [found for _, found, *_ in rows]
        metrics = {
            "eval_loss": total / max(weight, 1e-12),
            METRIC: float(np.mean(values)),
            METRIC + ERROR: float(np.std(values) / np.sqrt(len(values))),
            UNRANKED: float(sum(map(unranked, scored))),
            SPREAD: median_spread(scored),
        }
        if self.metric == "dcg@10":
            each, gain = np.array([mean_discount(found, gains, CUT) for _, found, _, gains in rows]).T
            metrics[CORRECTED] = float(each @ gain / gain.sum())
            metrics[CORRECTED + ERROR] = float(np.linalg.norm((each - metrics[CORRECTED]) * gain) / gain.sum())
        if self.metric == "auc":
            wanted = np.concatenate([labels for _, _, labels, _ in rows])
            metrics[AUC] = auc(np.concatenate(scored), wanted)
            metrics[AUC + ERROR] = auc_error(metrics[AUC], int((wanted > 0).sum()), int((wanted == 0).sum()))
        return metrics

    @torch.no_grad()
    def scores(self, model: Any, batch_size: int, device: torch.device | str) -> list[np.ndarray]:
        """Raw log-odds of the candidates of each list of `every`, float32 [K] per list; all processes get all of them.

        `model` is left in evaluation mode.

        Raises:
            DivergedError: a score is NaN or infinite, as it may be in a list that the metric is not of; in all
                processes.
        """
        found = []
        for first, mine, _, grid in _scored(model, self.every, batch_size, device):
            for n, (row, example) in enumerate(zip(grid.cpu().numpy(), mine)):
                found.append((first + n, row[: len(example.labels)]))
        scores = [row for _, row in sorted(gather_object(found), key=lambda one: one[0])]
        _check_finite([(one.prompt.list_id, row) for one, row in zip(self.every, scores, strict=True)])
        return scores

    def lift(self, scores: Sequence[np.ndarray]) -> Lift | None:
        """nDCG@10, or DCG@10 by inverse propensities where these are known, of `scores` against first-stage order, and
        of both blended where that is what helps; None where lists hold one candidate each.

        Args:
            scores: what `scores` returned.
        """
        pairs = [(row, _gains(e)) for row, e in zip(scores, self.every) if e.labels.any() and len(e.labels) > 1]
        if not pairs:
            return None
        corrected = self.every[0].inverse_propensity is not None
        measure = (lambda row, gains: mean_discount(row, gains, CUT)[0]) if corrected else partial(ndcg, k=CUT)
        weights = np.array([gains.sum() if corrected else 1.0 for _, gains in pairs])
        mine = np.array([measure(row, gains) for row, gains in pairs])
        first = np.array([measure(-np.arange(len(gains)), gains) for _, gains in pairs])
        resamples = resample(len(pairs), _RESAMPLES, seed=0)
        found = interval(mine - first, resamples, list_weights=weights)
        reached, before = (float(np.average(one, weights=weights)) for one in (mine, first))
        lift = Lift(reached, before, found.low, found.high, len(pairs), metric="dcg@10" if corrected else "ndcg@10")
        if lift.helps or len(pairs) < _FEWEST:
            return lift
        tried, inner = [], WEIGHTS[1:-1]
        confidence = 1 - (1 - CONFIDENCE) / len(inner)  # so many are tried: Bonferroni
        for weight in inner:
            some = np.array([measure(measured(row, weight), gains) for row, gains in pairs])
            gain = interval(some - first, resamples, confidence, weights)
            tried.append(Blended(weight, gain.mean, gain.low, gain.high))
        surest = max(tried, key=lambda one: one.low)
        return replace(lift, blended=surest) if surest.low > 0 else lift


def _gains(example: Example) -> np.ndarray:
    """Gains of a list's labels, weighted by inverse propensity where it is known; float64 [K]."""
    gains = exponential_gains(example.labels)
    return gains if example.inverse_propensity is None else gains * example.inverse_propensity


def _check_finite(rows: Sequence[tuple[str, np.ndarray]]) -> None:
    """Raise DivergedError where lists, by their ids, have scores that are none."""
    if broken := [list_id for list_id, found in rows if not np.isfinite(found).all()]:
        first = f"{broken[0]!r} first" if len(broken) > 1 else repr(broken[0])
        raise DivergedError(f"scores are NaN or infinite in {len(broken)} of {len(rows)} validation lists ({first})")


def _scored(
    model: Any, examples: Sequence[Example], batch_size: int, device: torch.device | str
) -> Iterator[tuple[int, Sequence[Example], Batch, torch.Tensor]]:
    """This process's part of the lists: number of the first one, the lists, as a batch, and scores float32 [B, K]."""
    model.eval()
    state = PartialState()
    step = batch_size * state.num_processes
    for start in range(0, len(examples), step):
        together = examples[start : start + step]
        mine = share(together, state.process_index, state.num_processes)
        first = start + state.process_index * len(together) // state.num_processes  # as `share` cuts
        # Where a model is spread over processes all must take part; who has no list scores one for nothing.
        batch = collate(mine or examples[:1]).to(device)
        yield first, mine, batch, padded(score(model, batch.packed.to(device)), batch.mask)

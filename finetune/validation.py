"""nDCG@10, AUC and loss on validation lists, during training; their scores, after it.

validation = Validation(dataset)
validation.measure(model, 16, loss=listnet, device="cpu")   # {"eval_loss": …, "eval_ndcg@10": …}
validation.scores(model, 16, device="cpu")                  # float32 [K] per list of validation.every
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from reshelf.finetune.batches import Batch, Example, ListDataset, collate, padded
from reshelf.finetune.distributed import share
from reshelf.finetune.losses.mean import with_positive
from reshelf.modeling.score import score

Metric = Literal["ndcg@10", "auc"]
METRIC = "eval_ndcg@10"
AUC = "eval_auc"
CUT = 10


def ndcg(scores: np.ndarray, labels: np.ndarray, cut: int = CUT) -> float:
    """nDCG@cut of one list with gains 2^label − 1; equal scores keep first-stage order.

    Args:
        scores: float [K], candidates in first-stage order.
        labels: int [K], at least one above 0.
    """
    order = np.argsort(-scores, kind="stable")
    gains = torch.from_numpy(np.exp2(labels[order]) - 1)
    return float(retrieval_normalized_dcg(torch.arange(len(gains), 0, -1).double(), gains, top_k=cut))


class Validation:
    """Validation lists.

    Args:
        dataset: lists with labels.
        metric: what will be looked at. ndcg@10 leaves out lists without a positive label, which cannot be ordered
            rightly or wrongly; auc ranks the candidates of all lists in one row, where lists may hold one each.
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
        loss: Callable[..., torch.Tensor],
        device: torch.device | str,
        counts: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = with_positive,
    ) -> dict[str, float]:
        """Mean loss on labels, as they are, nDCG@10 over the lists with a positive label, and with metric auc the AUC
        of label > 0 over all candidates; `model` is left in evaluation mode.

        `counts` says how much a list counts in `loss`. Several processes share the lists; each returns the same
        numbers, those of all lists.
        """
        values, losses, rows = [], [], []
        for _, mine, batch, grid in _scored(model, self.examples, batch_size, device):
            if mine:
                value = loss(grid, batch.labels, batch.mask, batch.weights, batch.inverse_propensity)
                counted = float((batch.weights * counts(batch.labels, batch.mask)).sum())
                losses.append((float(value) * counted, counted))
            for row, example in zip(grid.cpu().numpy(), mine):
                found = row[: len(example.labels)]
                if example.labels.any():
                    values.append(ndcg(found, example.labels))
                if self.metric == "auc":
                    rows.append((found, example.labels > 0))
        values, losses, rows = gather_object(values), gather_object(losses), gather_object(rows)
        total = sum(counted for _, counted in losses)
        metrics = {"eval_loss": sum(part for part, _ in losses) / max(total, 1e-12), METRIC: float(np.mean(values))}
        if self.metric == "auc":
            from sklearn.metrics import roc_auc_score

            scores, wanted = (np.concatenate(column) for column in zip(*rows, strict=True))
            metrics[AUC] = float(roc_auc_score(wanted, scores))
        return metrics

    @torch.no_grad()
    def scores(self, model: Any, batch_size: int, device: torch.device | str) -> list[np.ndarray]:
        """Raw log-odds of the candidates of each list of `every`, float32 [K] per list; all processes get all of them.

        `model` is left in evaluation mode.
        """
        found = []
        for first, mine, _, grid in _scored(model, self.every, batch_size, device):
            for n, (row, example) in enumerate(zip(grid.cpu().numpy(), mine)):
                found.append((first + n, row[: len(example.labels)]))
        return [row for _, row in sorted(gather_object(found), key=lambda one: one[0])]


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
        yield first, mine, batch, padded(score(model, batch.packed), batch.mask)

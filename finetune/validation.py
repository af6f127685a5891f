"""nDCG@10 and loss on validation lists, during training.

Validation(dataset).measure(model, 16, joint=False, loss=listnet, device="cpu")   # {"eval_loss": …, "eval_ndcg@10": …}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from reshelf.finetune.batches import ListDataset, collate, padded
from reshelf.finetune.sharing import share
from reshelf.modeling.score import score

METRIC = "eval_ndcg@10"
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
    """Validation lists that have a positive label; others cannot be ordered rightly or wrongly."""

    def __init__(self, dataset: ListDataset) -> None:
        self.examples = [e for e in (dataset[n] for n in range(len(dataset))) if e.labels.any()]

    @torch.no_grad()
    def measure(
        self, model: Any, batch_size: int, joint: bool, loss: Callable[..., torch.Tensor], device: torch.device | str
    ) -> dict[str, float]:
        """Mean loss and nDCG@10 over the lists; `model` is left in evaluation mode.

        Several processes share the lists; each returns the same numbers, those of all lists.
        """
        model.eval()
        state = PartialState()
        values, losses = [], []
        step = batch_size * state.num_processes
        for start in range(0, len(self.examples), step):
            mine = share(self.examples[start : start + step], state.process_index, state.num_processes)
            # Where a model is spread over processes all must take part; who has no list scores one for nothing.
            batch = collate(mine or self.examples[:1], joint).to(device)
            grid = padded(score(model, batch.packed), batch.mask)
            if mine:
                losses.append(float(loss(grid, batch.labels, batch.mask, batch.weights)) * len(mine))
            for row, example in zip(grid.cpu().numpy(), mine):
                values.append(ndcg(row[: len(example.labels)], example.labels))
        values, losses = gather_object(values), gather_object(losses)
        return {"eval_loss": sum(losses) / len(values), METRIC: float(np.mean(values))}

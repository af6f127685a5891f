"""nDCG@10 and loss on validation lists, during training.

Validation(dataset).measure(model, 16, joint=False, loss=listnet, device="cpu")   # {"eval_loss": …, "eval_ndcg@10": …}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from reshelf.finetune.batches import ListDataset, collate, padded
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

    @torch.inference_mode()
    def measure(
        self, model: Any, batch_size: int, joint: bool, loss: Callable[..., torch.Tensor], device: torch.device | str
    ) -> dict[str, float]:
        """Mean loss and nDCG@10 over the lists; `model` is left in evaluation mode."""
        model.eval()
        values, losses = [], []
        for start in range(0, len(self.examples), batch_size):
            examples = self.examples[start : start + batch_size]
            batch = collate(examples, joint).to(device)
            scores = score(model, batch.packed)
            grid = padded(scores, batch.mask)
            losses.append(
                float(loss(grid, batch.labels, batch.mask, torch.ones(len(examples), device=device))) * len(examples)
            )
            for row, example in zip(grid.cpu().numpy(), examples):
                values.append(ndcg(row[: len(example.labels)], example.labels))
        return {"eval_loss": sum(losses) / len(values), METRIC: float(np.mean(values))}

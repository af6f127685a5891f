"""transformers.Trainer over lists: shared-prefix batches, a listwise loss, nDCG@10 as the metric that decides.

trainer = ListTrainer(model, arguments, train_dataset, validation, listnet, joint=False, patience=5)
trainer.train_or_resume()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from reshelf.finetune.batches import Batch, ListDataset, collate, padded
from reshelf.finetune.packed_trainer import PackedTrainer
from reshelf.finetune.progress import TableProgress
from reshelf.finetune.validation import Validation
from reshelf.modeling.score import score


class _NewEpoch(TrainerCallback):
    """Tells the data set which epoch it is, so that its draws differ between epochs and repeat on resuming."""

    def __init__(self, dataset: ListDataset) -> None:
        self._dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._dataset.set_epoch(int((state.epoch or 0) + 1e-3))  # resuming begins inside an epoch


class ListTrainer(PackedTrainer):
    """Trains `score` on lists.

    Args:
        model: peft model with a `LabelHead`.
        args: transformers' arguments.
        train_dataset: lists with labels.
        validation: lists for nDCG@10.
        loss: a function of `finetune.losses`.
        joint: candidates see those before them.
        patience: validations without progress before training stops.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        train_dataset: ListDataset,
        validation: Validation,
        loss: Callable[..., torch.Tensor],
        joint: bool,
        patience: int,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset,  # Trainer wants one; `evaluate` below uses `validation`
            data_collator=partial(collate, joint=joint),
            callbacks=[_NewEpoch(train_dataset), EarlyStoppingCallback(patience), TableProgress()],
        )
        self._validation = validation
        self._loss = loss
        self._joint = joint

    def compute_loss(  # type: ignore[override]
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        scores = padded(score(model, inputs.packed), inputs.mask)
        return self._loss(scores, inputs.labels, inputs.mask, torch.ones(len(scores), device=scores.device))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        model = self.accelerator.unwrap_model(self.model)
        metrics = self._validation.measure(
            model, self.args.per_device_eval_batch_size, self._joint, self._loss, self.args.device
        )
        model.train()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

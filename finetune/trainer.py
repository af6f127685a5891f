"""transformers.Trainer over lists: shared-prefix batches, a listwise loss, nDCG@10 as the metric that decides.

trainer = ListTrainer(model, arguments, train_dataset, validation, listnet, joint=False, patience=5)
trainer.train_or_resume()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate.utils import reduce
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from reshelf.finetune.batches import Batch, ListDataset, collate, padded
from reshelf.finetune.packed_trainer import PackedTrainer
from reshelf.finetune.progress import TableProgress
from reshelf.finetune.sharing import StepSampler
from reshelf.finetune.validation import Validation
from reshelf.modeling.score import score


class _NewEpoch(TrainerCallback):
    """Says which epoch it is, so that draws and order differ between epochs and repeat on resuming."""

    def __init__(self, *told: ListDataset | StepSampler) -> None:
        self._told = told

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for one in self._told:
            one.set_epoch(int((state.epoch or 0) + 1e-3))  # resuming begins inside an epoch


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
        self._sampler = StepSampler(
            len(train_dataset), args.per_device_train_batch_size, args.seed, args.process_index, args.world_size
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset,  # Trainer wants one; `evaluate` below uses `validation`
            data_collator=partial(collate, joint=joint),
            callbacks=[
                _NewEpoch(train_dataset, self._sampler),
                EarlyStoppingCallback(patience),
                *([TableProgress()] if args.process_index == 0 else []),
            ],
        )
        self.model_accepts_loss_kwargs = True  # `compute_loss` divides by the lists of the whole step
        self._validation = validation
        self._loss = loss
        self._joint = joint

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches as they are; accelerate would fill an epoch's last step with lists that have had their turn."""
        lists: Any = self.train_dataset
        return DataLoader(lists, batch_sampler=self._sampler, collate_fn=self.data_collator)

    def _get_num_items_in_batch(self, batches: list[Batch], device: torch.device) -> torch.Tensor:  # type: ignore[override]
        """Weight of all lists of an optimiser step: of every forward pass on every process."""
        weight = torch.stack([batch.weights.sum() for batch in batches]).sum()
        return reduce(weight.to(device), "sum")

    def compute_loss(  # type: ignore[override]
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This batch's part of the mean over all lists of the step, times the number of processes.

        The parts of a process are added up, and gradients are averaged over processes: what comes out is the mean over
        lists, whatever share of them a process had.
        """
        scores = padded(score(model, inputs.packed), inputs.mask)
        mean = self._loss(scores, inputs.labels, inputs.mask, inputs.weights)
        return mean * (inputs.weights.sum() / num_items_in_batch * self.args.world_size)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        model: Any = self.model
        metrics = self._validation.measure(
            model, self.args.per_device_eval_batch_size, self._joint, self._loss, self.args.device
        )
        model.train()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

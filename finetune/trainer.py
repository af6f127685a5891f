"""transformers.Trainer over lists: shared-prefix batches, losses on labels and a teacher, validation decides.

trainer = ListTrainer(model, arguments, train_dataset, validation, listnet, patience=5)
trainer.train_or_resume()
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import reduce
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments

from reshelf.errors import DivergedError
from reshelf.finetune.batches import Batch, ListDataset, collate, padded
from reshelf.finetune.checkpoint_choice import kept_checkpoint
from reshelf.finetune.distributed import StepSampler
from reshelf.finetune.health import LEAST_SPREAD, diverged
from reshelf.finetune.losses.weighted_sum import LossSum
from reshelf.finetune.packed_trainer import PackedTrainer
from reshelf.finetune.progress import TableProgress
from reshelf.finetune.validation import SPREAD, UNRANKED, Validation
from reshelf.modeling.graphs import Graphs
from reshelf.modeling.score import score

logger = logging.getLogger("reshelf.finetune")


class _NewEpoch(TrainerCallback):
    """Says which epoch it is, so that draws and order differ between epochs and repeat on resuming."""

    def __init__(self, *parts: ListDataset | StepSampler) -> None:
        self._parts = parts

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for one in self._parts:
            one.set_epoch(int((state.epoch or 0) + 1e-3))  # resuming begins inside an epoch


class Watched(TrainerCallback):
    """Tells `watch` the step and the metric at each validation."""

    def __init__(self, watch: Callable[[int, float], None], metric: str) -> None:
        self._watch = watch
        self._metric = metric

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        self._watch(state.global_step, metrics[f"eval_{self._metric}"])


@dataclass(frozen=True)
class Teaching:
    """Distillation beside the labels."""

    loss: Callable[..., LossSum]
    """A function of `finetune.losses` on a teacher's scores."""
    weight: float
    """Its share; the rest is the loss on labels."""


class ListTrainer(PackedTrainer):
    """Trains `score` on lists.

    Args:
        model: peft model with a `LabelHead`.
        args: transformers' arguments.
        train_dataset: lists with labels.
        validation: lists whose metrics decide.
        loss: a function of `finetune.losses` on labels.
        patience: validations in a row whose checkpoint was not kept before training stops.
        teaching: how to learn from the teacher's scores that batches carry; None to leave them alone.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        train_dataset: ListDataset,
        validation: Validation,
        loss: Callable[..., LossSum],
        patience: int,
        teaching: Teaching | None = None,
    ) -> None:
        self._sampler = StepSampler(
            len(train_dataset), args.per_device_train_batch_size, args.seed, args.process_index, args.world_size
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=train_dataset,  # Trainer wants one; `evaluate` below uses `validation`
            data_collator=collate,
            callbacks=[
                _NewEpoch(train_dataset, self._sampler),
                *([TableProgress()] if args.process_index == 0 else []),
            ],
        )
        self.model_accepts_loss_kwargs = True  # `compute_loss` divides by the weight of the whole step
        self._validation = validation
        self._loss = loss
        self._patience = patience
        self._teaching = teaching
        self._warned = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches as they are; accelerate would fill an epoch's last step with lists that have had their turn."""
        lists: Any = self.train_dataset
        return DataLoader(lists, batch_sampler=self._sampler, collate_fn=self.data_collator)

    def _get_num_items_in_batch(self, batches: list[Batch], device: torch.device) -> torch.Tensor:  # type: ignore[override]
        """Weight of an optimizer step, over every forward pass on every process: [labels, teacher], float32.

        It is needed before the first pass. No weight depends on scores or propensities, so any will do.
        """
        with torch.no_grad():
            parts = [self._losses(torch.ones(b.mask.shape), b, torch.ones(b.mask.shape)) for b in batches]
        weights = torch.tensor([[part.weight for part in of_batch] for of_batch in parts], device=device)
        return reduce(weights.sum(0), "sum")

    def _losses(self, scores: torch.Tensor, batch: Batch, inverse_propensity: torch.Tensor) -> list[LossSum]:
        """On labels, and with a teacher on its scores."""
        losses = [self._loss(scores, batch.labels, batch.mask, batch.weights, inverse_propensity)]
        if self._teaching is not None:
            losses.append(self._teaching.loss(scores, batch.teacher, batch.mask, batch.weights))
        return losses

    @cached_property
    def _graphs(self) -> Graphs | None:
        """None where gradients are exchanged while a backward pass runs, or activations are computed again in it."""
        model: Any = self.model
        if self.args.world_size > 1 or model.is_gradient_checkpointing:
            return None
        graphs = Graphs(model, training=True)
        return graphs if graphs.usable else None

    def compute_loss(  # type: ignore[override]
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This batch's part of the mean over all lists of the step, times the number of processes.

        The parts of a process are added up, and gradients are averaged over processes: what comes out is the mean over
        what teaches, lists or candidates, whatever share of them a process had: for the loss on labels and for that on
        the teacher's scores, each over its own.
        """
        graphs = self._graphs
        values = graphs.score(inputs.packed) if graphs else score(model, inputs.packed.to(self.args.device))
        scores = padded(values, inputs.mask)
        losses = self._losses(scores, inputs, inputs.inverse_propensity)
        parts = torch.stack([part.sum for part in losses]) / num_items_in_batch.clamp_min(1e-12) * self.args.world_size
        if self._teaching is None:
            return parts[0]
        return torch.lerp(parts[0], parts[1], self._teaching.weight)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        model: Any = self.model
        step = self.state.global_step
        try:
            metrics = self._validation.measure(
                model, self.args.per_device_eval_batch_size, self._loss, self.args.device
            )
        except DivergedError as error:  # before this state is saved
            raise diverged(step, str(error), Path(str(self.args.output_dir))) from error
        model.train()
        if metrics[SPREAD] < LEAST_SPREAD and not self._warned and self.is_world_process_zero():
            self._warned = True
            logger.warning(
                "step %d: the model hardly tells candidates apart: its scores differ by %.1e log-odds within a list "
                "(standard deviation, median over validation lists), less than engines do from each other; %d lists "
                "are unranked; train anew with a lower optimizer.learning_rate",
                step, metrics[SPREAD], metrics[UNRANKED],
            )  # fmt: skip
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether the checkpoint of this validation is the one to keep; ends training where patience does."""
        metric = str(self.args.metric_for_best_model)
        validations = [one for one in self.state.log_history if metric in one]
        kept = kept_checkpoint(validations, metric)
        self.state.best_metric, self.state.best_global_step = validations[kept][metric], int(validations[kept]["step"])
        waited = len(validations) - 1 - kept
        self.control.should_training_stop |= waited >= self._patience
        return waited == 0

    def validation_scores(self) -> list[np.ndarray]:
        """`Validation.scores` of the model as it is now; after `train`, that is the best one. All processes call it.

        Raises:
            DivergedError: a score is NaN or infinite.
        """
        model: Any = self.model
        try:
            scores = self._validation.scores(model, self.args.per_device_eval_batch_size, self.args.device)
        except DivergedError as error:
            raise DivergedError(
                f"the kept checkpoint, of step {self.state.best_global_step}, is no reranker: {error}; train anew in "
                "another folder with a lower optimizer.learning_rate"
            ) from error
        if isinstance(model, FSDPModule):
            model.reshard()  # no backward pass will do it
        return scores

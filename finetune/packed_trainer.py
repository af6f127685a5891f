"""What both trainers need so that transformers.Trainer takes packed batches instead of dicts of padded tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils.logging import disable_progress_bar

from reshelf.data.atomic import atomic, no_empty_folder
from reshelf.finetune.health import check_step
from reshelf.modeling.loading import pick_device

COMPLETE = "complete"
"""A file in a checkpoint's folder that is written last; a run killed while it saves leaves a folder without it."""


def packed_arguments(**arguments: Any) -> TrainingArguments:
    """transformers' arguments for a PackedTrainer; under a launcher, this makes the processes know each other."""
    made = TrainingArguments(
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=pick_device() == "cpu",
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        **arguments,
    )
    # One process works on one GPU; with more in sight, Trainer would split our batches as if they were tensors.
    made._n_gpu = min(made.n_gpu, 1)
    return made


class _Complete(TrainerCallback):
    """Marks a checkpoint as complete when every process has written its part; none goes on before."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def _name_best_here(checkpoint: Path) -> None:
    """Let a checkpoint name the best one where it lies now. It holds the path from when it was written, and of a run
    that was moved since, transformers would keep the last weights instead of the best ones."""
    path = checkpoint / TRAINER_STATE_NAME
    state = TrainerState.load_from_json(str(path))
    best = checkpoint.with_name(f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}")
    if state.best_global_step and best.is_dir() and state.best_model_checkpoint != str(best):
        state.best_model_checkpoint = str(best)
        with atomic(path) as partial:
            state.save_to_json(str(partial))


class PackedTrainer(Trainer):
    """Batches are objects with `.to(device)`; losses are means over the batch; progress is shown by our callbacks."""

    def __init__(self, **arguments: Any) -> None:
        disable_progress_bar()  # of shards written
        # Trainer makes the folder of checkpoints, and this run may be refused yet.
        with no_empty_folder(Path(str(arguments["args"].output_dir))):
            super().__init__(**arguments)
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Complete())
        # Our losses are means already; Trainer must divide by the accumulation steps itself.
        self.model_accepts_loss_kwargs = False
        self._loss_is_finite: torch.Tensor | None = None

    def train_or_resume(self) -> None:
        """Train, from the last complete checkpoint in the output folder where there is one."""
        complete = [file.parent for file in Path(str(self.args.output_dir)).glob(f"checkpoint-*/{COMPLETE}")]
        last = max(complete, key=lambda folder: int(folder.name.removeprefix("checkpoint-")), default=None)
        if last is not None:
            if self.is_world_process_zero():
                _name_best_here(last)
            PartialState().wait_for_everyone()
        self.train(resume_from_checkpoint=str(last) if last else None)

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*arguments, **named)
        finite = torch.isfinite(loss)  # looked at once a step, where the processor waits for the device anyway
        self._loss_is_finite = finite if self._loss_is_finite is None else self._loss_is_finite & finite
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Called once an optimizer step, before it; gradients are those of all processes, so all of them stop."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        finite = self._loss_is_finite is None or bool(self._loss_is_finite)
        self._loss_is_finite = None
        checkpoints = Path(str(self.args.output_dir))
        check_step(self.state.global_step + 1, finite, 0.0 if norm is None else float(norm), checkpoints)
        return norm

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device)

    def _get_num_items_in_batch(self, *_: Any, **__: Any) -> None:
        return None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: Trainer's estimate needs padded input tensors."""
        return 0

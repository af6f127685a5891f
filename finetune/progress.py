"""Training progress for people: a bar with the time left, and one line per validation."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from reshelf.finetune.validation import AUC, METRIC, UNRANKED


class TableProgress(TrainerCallback):
    """A rich progress bar; above it a line with step, loss and nDCG@10 for every validation."""

    def __init__(self, what: str = "finetuning") -> None:
        self.console = Console()
        self._what = what
        self._losses: list[float] = []
        self._bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = Progress(
            TextColumn(self._what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self._losses.append(float(logs["loss"]))
        if METRIC in logs:
            mean = f"{sum(self._losses) / len(self._losses):.4f}" if self._losses else "–"
            self.console.print(
                f"step {state.global_step:>5}   train loss {mean}   valid loss {logs['eval_loss']:.4f}   "
                + (f"valid AUC {logs[AUC]:.4f}" if AUC in logs else f"valid nDCG@10 {logs[METRIC]:.4f}")
                + (f"   {logs[UNRANKED]:.0f} lists unranked" if logs.get(UNRANKED) else ""),
                highlight=False,
            )
            self._losses.clear()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()


class LossProgress(TableProgress):
    """The same bar for pretraining, with a line of the mean loss every 250 steps."""

    every = 250

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._losses.append(float(logs["loss"]))
        if self._losses and state.global_step % self.every == 0:
            mean = sum(self._losses) / len(self._losses)
            self.console.print(f"step {state.global_step:>6}   loss {mean:.4f}", highlight=False)
            self._losses.clear()

"""Training progress for people: a bar with the time left, one line per validation; and how long a step takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from reshelf.finetune.validation import AUC, CORRECTED, METRIC, METRIC_NAMES, UNRANKED, Metric
from reshelf.progress import MinuteProgress

FEWEST_STEPS = 4
"""Of a run that is ended by the clock."""


class TableProgress(TrainerCallback):
    """A rich progress bar; above it a line with step, loss and nDCG@10 for every validation."""

    def __init__(self, what: str = "finetuning") -> None:
        self.console = Console()
        self._what = what
        self._losses: list[float] = []
        self._bar: MinuteProgress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = MinuteProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task(self._what, total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        if "loss" in logs:
            self._losses.append(float(logs["loss"]))
        if METRIC in logs:
            measured: Metric = "auc" if AUC in logs else "dcg@10" if CORRECTED in logs else "ndcg@10"
            mean = f"{sum(self._losses) / len(self._losses):.4f}" if self._losses else "–"
            self.console.print(
                f"step {state.global_step:>5}   train loss {mean}   valid loss {logs['eval_loss']:.4f}   "
                + f"valid {METRIC_NAMES[measured]} {logs[f'eval_{measured}']:.4f}"
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


class StepTimer(TrainerCallback):
    """Measures how long a step takes, and ends the run when it knows.

    Args:
        seconds: to measure for; three steps at least.
    """

    def __init__(self, seconds: float) -> None:
        self._limit = seconds
        self._steps: list[float] = []
        self._validated: list[float] = []

    @property
    def step_s(self) -> float:
        """Of the median step; the first, which warms up, counts only where there is no other."""
        between = np.diff(self._steps[1:])
        return float(np.median(between)) if len(between) else 1.0

    @property
    def validation_s(self) -> float:
        """Of a validation; 0 where there was none."""
        return self._validated[0] - self._steps[-1] if self._validated else 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._steps.append(time.perf_counter())
        if len(self._steps) >= FEWEST_STEPS and self._steps[-1] - self._steps[0] > self._limit:
            _end_here(args, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._validated.append(time.perf_counter())


class StopAt(TrainerCallback):
    """Ends a run that takes longer than was measured, with what it has learned; after four steps at least.

    Args:
        end: on the clock of `time.monotonic`.
    """

    def __init__(self, end: float) -> None:
        self._end = end
        self.step: int | None = None
        """Where it ended the run."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= FEWEST_STEPS and time.monotonic() > self._end:
            self.step = state.global_step
            _end_here(args, control)


def _end_here(args: Any, control: Any) -> None:
    control.should_training_stop = True
    control.should_evaluate = control.should_save = args.eval_strategy != "no"

"""Any transformers Trainer, step by step on demand: the time from one step's end to the next, data loading included.

trainer.add_callback(StepPerTurn(turns))
trainer.train()
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from benchmarks.turns import Turns

ENDLESS = {"max_steps": 100_000, "logging_strategy": "no", "save_strategy": "no", "report_to": "none"}
"""Arguments of a trainer that stops when there are no more turns."""


class StepPerTurn(TrainerCallback):
    """One optimizer step per turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = not self._turns.turn()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._turns.done()
        control.should_training_stop = not self._turns.turn()

"""Trainings that kill their own process at a step, for `tests.forked`."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.pretrain import PretrainConfig, TextTrainer, pretrain
from reshelf.finetune.run import finetune
from reshelf.finetune.trainer import ListTrainer


def finetune_killed(config: FinetuneConfig, method: str, call: int) -> None:
    """Killed where the trainer's method is called for so many times."""
    _kill_at(ListTrainer, method, call)
    finetune(config)


def finetune_killed_while_removing(config: FinetuneConfig, removed: bool) -> None:
    """Killed when it has finished: before the folder of checkpoints loses its name, or when half of it is removed."""
    original = shutil.rmtree

    def removing(folder: str | Path, **how: Any) -> None:
        if (folder := Path(folder)).name == ".checkpoints.removed" and folder.is_dir():
            next(folder.glob("checkpoint-*/optimizer.pt")).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        original(folder, **how)

    def renaming(folder: Path, target: Path) -> None:
        if folder.name == "checkpoints":
            os.kill(os.getpid(), signal.SIGKILL)
        os.rename(folder, target)

    if removed:
        setattr(shutil, "rmtree", removing)  # noqa: B010
    else:
        setattr(Path, "rename", renaming)  # noqa: B010
    finetune(config)


def pretrain_killed(config: PretrainConfig, step: int) -> None:
    _kill_at(TextTrainer, "training_step", step)
    pretrain(config)


def _kill_at(trainer: type, method: str, call: int) -> None:
    original, seen = getattr(trainer, method), [0]

    def killing(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen[0] += 1
        if seen[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    setattr(trainer, method, killing)

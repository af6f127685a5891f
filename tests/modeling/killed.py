"""Saves that are killed, for `tests.forked`."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from reshelf.data import atomic
from reshelf.modeling.checkpoint import load_reranker, save_reranker

_CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "ctypes.dlsym")


def saves_killed(old: Path, new: Path, kills: int, exchange: bool, found: Path) -> None:
    """Save what is in `new` over copies of `old`, killed at some of the moments before the disk changes.

    Args:
        exchange: whether the file system can exchange two names.
        found: a file to write what was left each time to: "old", "new", or what else.
    """
    torch.set_num_threads(1)
    setattr(atomic, "_sync", lambda _: None)  # noqa: B010  # a kill leaves the disk as the system sees it
    trained = load_reranker(new, "cpu")
    if not exchange:
        setattr(atomic, "_exchanged", lambda *_: False)  # noqa: B010
    folder = old.parent / "saves" / "model"

    def save(dies_at: int = 0) -> int:
        """Returns how many such moments there were; in a process of its own, where it dies."""
        moments = [0]

        def heard(event: str, _: Any) -> None:
            moments[0] += event in _CHANGES
            if event in _CHANGES and moments[0] == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        if dies_at and (child := os.fork()):
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), "it was not killed"
            return dies_at
        sys.addaudithook(heard)
        save_reranker(folder, trained.model, trained.tokenizer, trained.spec)
        if dies_at:
            os._exit(0)
        return moments[0]

    for _ in range(2):  # the first opens the files of modules as well
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)
        before, every = contents(folder), save()
    after, left = contents(folder), []
    for moment in [*sorted(random.Random(0).sample(range(1, every), kills - 1)), every]:
        shutil.rmtree(folder)
        shutil.copytree(old, folder)
        save(moment)
        atomic.finish_replacing(folder)
        now = contents(folder)
        left.append("old" if now == before else "new" if now == after else str(sorted(now)))
        save()
        if os.listdir(folder.parent) != ["model"] or contents(folder) != after:
            left.append(f"{os.listdir(folder.parent)} after the next one")
    found.write_text(json.dumps(left))


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files below it, by their place."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

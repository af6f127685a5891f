"""Processes that can be killed and need not import the libraries: forks of one that did, once in a test session.

    assert exit_code(finetune_killed, config, "training_step", 5) == -signal.SIGKILL

Each begins as a process of its own would, with the libraries imported and nothing run, 10 s earlier.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["reshelf.finetune.run", "reshelf.finetune.pretraining.pretrain"])


@contextmanager
def forked(function: Callable[..., Any], *args: Any, said: Path | None = None) -> Iterator[BaseProcess]:
    """A process that does not outlive the block.

    Args:
        function: of a module that imports little more than those libraries.
        said: a file for what it prints, on both streams.
    """
    process = _CONTEXT.Process(target=_run, args=(function, args, said))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def exit_code(function: Callable[..., Any], *args: Any) -> int | None:
    """The one of a process once it has ended; negative where a signal ended it."""
    with forked(function, *args) as process:
        process.join(300)
        return process.exitcode


def _run(function: Callable[..., Any], args: tuple[Any, ...], said: Path | None) -> None:
    if said is not None:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
    function(*args)

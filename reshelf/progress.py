"""Progress for people: a bar on a terminal; in a log or a pipe a line a minute, with the time left.

with MinuteProgress() as progress:
    task = progress.add_task("scoring", total=100)
    progress.advance(task)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EVERY_S = 60.0


class MinuteProgress(Progress):
    """rich's Progress, which also tells where there is no terminal."""

    def __init__(self, *columns: Any, console: Console | None = None, **settings: Any) -> None:
        columns = columns or (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        settings.setdefault("speed_estimate_period", 600)
        super().__init__(*columns, console=console, **settings)
        self._said = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        if self.console.is_terminal or self.disable or time.monotonic() - self._said < EVERY_S:
            return
        self._said = time.monotonic()
        task = self._tasks[task_id]
        of = f" of {task.total:,.0f}" if task.total else ""
        left = f", {time_text(task.time_remaining)} left" if task.time_remaining is not None else ""
        self.console.print(f"{task.description}: {task.completed:,.0f}{of}{left}", highlight=False)


@contextmanager
def phase(console: Console, what: str) -> Iterator[None]:
    """Work of which nobody knows how long it takes: a spinner on a terminal, else a line now and one a minute."""
    if console.is_terminal:
        with console.status(what):
            yield
        return
    console.print(f"{what} …", highlight=False)
    started, over = time.monotonic(), threading.Event()

    def tell() -> None:
        while not over.wait(EVERY_S):
            console.print(f"{what}: {time_text(time.monotonic() - started)} so far", highlight=False)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def time_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""One contestant in a process of its own: it waits for its turn, works once, and says how long that took.

    turns = Turns()                       # in the contestant's script
    turns.ready(parameters=3_200_000)    # model loaded; what comes next is measured
    while turns.turn():                  # waits for a line on stdin
        work()
        turns.done()                     # seconds and peak memory go to stdout

Standard library only: it also runs in the environments of the peers. `benchmarks.workers` is the other side.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class Turns:
    """Turns are asked for on stdin; what is said on stdout is JSON, one line each. All else goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._start = 0.0
        self._resident = 0.0
        self.task: Any = None
        """What the turn asks for: whatever the other side sent."""

    def ready(self, **facts: Any) -> None:
        """Say that the model is in memory; memory is counted above what it takes now."""
        self._resident = _status("VmRSS")
        self._say(facts)

    def turn(self) -> bool:
        """Wait for the next turn; False when there will be none."""
        line = sys.stdin.readline()
        if not line:
            return False
        self.task = json.loads(line)
        _reset_peak()
        self._start = time.perf_counter()
        return True

    def done(self, **facts: Any) -> None:
        """Say how long the turn took, and how much memory it needed at most above the model's own."""
        seconds = time.perf_counter() - self._start
        self._say({"seconds": seconds, "peak_mib": _status("VmHWM") - self._resident, **facts})

    def _say(self, facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=self._out, flush=True)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # where it cannot be reset, the peak is that of the whole run so far
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    """A value of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0.0

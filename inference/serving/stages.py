"""How long the parts of one ranking take.

watch = Stages(meta, started);  watch.end("read");  watch.end("history")
"""

from __future__ import annotations

import time

from reshelf.inference.serving.schemas import Meta


class Stages:
    """Milliseconds by stage, in the order in which stages end: each begins where the one before it ended.

    Args:
        meta: whose `ms` it is.
        started: when the first one began, on the clock of `time.perf_counter`.
    """

    def __init__(self, meta: Meta, started: float) -> None:
        self._meta, self._last = meta, started

    def end(self, stage: str) -> None:
        """The stage ends now."""
        now = time.perf_counter()
        self._meta.ms[stage] = 1000 * (now - self._last)
        self._last = now

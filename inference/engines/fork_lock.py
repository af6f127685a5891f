"""A lock for a model, over the threads of this process and the processes that are forked from it.

    lock = ForkLock()
    scores = lock.run(lambda: score(model, batch))

A fork, as of multiprocessing or of a server that preloads, waits until no other thread holds the lock, so that the
child finds the model as it is between two calls. There, work is done in a thread that begins after the fork: threads of
OpenMP, which torch computes with on a CPU, do not exist in the child, and who ran them before waits for them for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakSet

import torch

T = TypeVar("T")


class ForkLock:
    """As a context manager it is held without computing."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread: ThreadPoolExecutor | None = None
        """Where a forked process computes."""
        _all.add(self)

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, once the lock is held."""
        if self._thread is None:
            with self._lock:
                return work()
        threads = torch.get_num_threads()  # holds for this thread

        def elsewhere() -> T:
            with self._lock:
                if torch.get_num_threads() != threads:
                    torch.set_num_threads(threads)
                return work()

        return self._thread.submit(elsewhere).result()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def begin_anew(self) -> None:
        """In a process that was forked."""
        self._lock = threading.RLock()
        self._thread = ThreadPoolExecutor(1, "engine")  # begins with the first work


_all: WeakSet[ForkLock] = WeakSet()
_forking = threading.local()
"""Of a thread that forks, the locks it holds meanwhile."""


def _wait() -> None:
    _forking.held = sorted(_all, key=id)  # in one order, for two threads may fork at once
    for lock in _forking.held:
        lock.__enter__()


def _go_on() -> None:
    for lock in _forking.__dict__.pop("held", ()):
        lock.__exit__(None, None, None)


def _begin_anew() -> None:
    _forking.__dict__.pop("held", None)
    for lock in list(_all):
        lock.begin_anew()


os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_begin_anew)

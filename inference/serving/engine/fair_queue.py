"""Work of several tenants, done in turns: however much one brings, another waits for about one piece of it.

    queue = FairQueue()
    queue.put("shop-a", entry, cost=1200)
    entry = queue.take()

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): the tenant that had least of the time so far is next, and
one who comes after a pause starts level with the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class FairQueue(Generic[T]):
    """What waits, by tenant.

    Examples:
        >>> queue = FairQueue()
        >>> for entry in ("a1", "a2", "a3", "b1"):
        ...     queue.put(entry[0], entry, cost=1.0)
        >>> [queue.take() for _ in range(5)]
        ['a1', 'b1', 'a2', 'a3', None]
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[float, T]]] = {}
        self._spent: dict[str, float] = {}
        self._clock = 0.0
        """What the tenant had spent whose entry was taken last."""

    def put(self, tenant: str, entry: T, cost: float) -> None:
        """Behind the tenant's other entries."""
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            self._spent[tenant] = max(self._spent.get(tenant, 0.0), self._clock)
        self._waiting[tenant].append((cost, entry))

    def take(self) -> T | None:
        """The next entry; None where nothing waits."""
        if not self._waiting:
            return None
        tenant = min(self._waiting, key=self._spent.__getitem__)
        cost, entry = self._waiting[tenant].popleft()
        if not self._waiting[tenant]:
            del self._waiting[tenant]
        self._clock = self._spent[tenant]
        self._spent[tenant] += cost
        return entry

    def clear(self) -> None:
        self._waiting.clear()

    def __iter__(self) -> Iterator[T]:
        """Each tenant's entries, oldest first."""
        return (entry for entries in self._waiting.values() for _, entry in entries)


class FairThread:
    """One thread, whose time tenants get in turns.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._queue: FairQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = FairQueue()
        self._busy = False

    async def run(self, tenant: str, cost: float, work: Callable[..., R], *args: Any) -> R:
        """What `work(*args)` returns or raises; who no longer waits for it when it is its turn has it left out."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put(tenant, (future, partial(work, *args)), cost)
        self._start()
        return await future

    def shutdown(self) -> None:
        """No more work; what is being done is finished."""
        self._queue.clear()
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        while not self._busy and (entry := self._queue.take()) is not None:
            future, work = entry
            if not future.done():
                self._busy = True
                done = asyncio.get_running_loop().run_in_executor(self._thread, work)
                done.add_done_callback(partial(self._finish, future))

    def _finish(self, future: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
        self._busy = False
        self._start()
        error = None if done.cancelled() else done.exception()
        if future.done():
            return
        if done.cancelled():
            future.cancel()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(done.result())

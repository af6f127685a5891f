"""One engine of the server: a process that is kept alive, the queue in front of it, and the adapters in it.

engine = ServedEngine(Start("runs/demo/model", "auto"), waiting=64, stuck_s=30.0, start_s=1800.0)
engine.start()
scored = await engine.score(prompt, namespace)     # raises UnservedError with the reason
await engine.load("adapter1", folder)              # another reranker over the same base
await engine.forget(namespace)
await engine.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from pathlib import Path

from reshelf.inference.engines.messages import (
    AdapterLoaded,
    Forget,
    Forgotten,
    FromEngine,
    NotScored,
    Progress,
    ProtocolError,
    Ready,
    Scored,
    Start,
    ToEngine,
)
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine.adapters import Adapters
from reshelf.inference.serving.engine.queue import ScoringQueue
from reshelf.inference.serving.engine.supervisor import Supervisor

_NICE = 5
"""On a machine whose every core the engine uses, the server answers first: a deadline is kept by who is awake."""


class ServedEngine:
    """One engine process, as the server uses it.

    Args:
        start: which reranker, by which engine.
        waiting: lists in the queue at most.
        stuck_s: seconds without getting further, with work before it, after which the engine is killed.
        start_s: seconds after which one that is not ready is.
    """

    def __init__(self, start: Start, waiting: int, stuck_s: float, start_s: float) -> None:
        self._supervisor = Supervisor(start, self, stuck_s, start_s)
        self._queue = ScoringQueue(waiting)
        self._adapters = Adapters()
        # What these do is said where they are defined.
        self.start, self.wait_ready = self._supervisor.start, self._supervisor.wait_ready
        self.admit, self.score = self._queue.admit, self._queue.put
        self.load, self.unload = self._adapters.load, self._adapters.unload
        self._send: Callable[[ToEngine], None] | None = None
        self._forgetting: dict[int, asyncio.Future[None]] = {}
        self._numbers = 0
        self.name: str = start.engine
        """transformers or vllm, once it is ready."""
        self.takes_adapters = False
        """Whether it takes those of other rerankers."""
        self.users = 0
        """Rerankers that are served by it; with the last one it ends."""

    @classmethod
    def of(cls, folder: Path, config: ServeConfig) -> ServedEngine:
        """That of a reranker folder, not yet started."""
        start = Start(
            str(folder.absolute()), config.engine, nice=_NICE, trust_remote_code=config.trust_remote_code,
            precision=config.precision,
        )  # fmt: skip
        return cls(start, config.limits.waiting, config.stuck_s, config.start_s)

    @property
    def ready(self) -> bool:
        return self._supervisor.ready

    @property
    def problem(self) -> str:
        """Why it is not ready, for people."""
        return self._supervisor.problem

    @property
    def starts(self) -> int:
        """How often its process was started."""
        return self._supervisor.starts

    @property
    def depth(self) -> int:
        """Lists that wait or are being scored."""
        return self._queue.depth

    @property
    def silent_s(self) -> float:
        """`ScoringQueue.silent_s`, for the supervisor."""
        return self._queue.silent_s

    @property
    def expected_s(self) -> float:
        """`ScoringQueue.expected_s`, for the supervisor."""
        return self._queue.expected_s

    def has_time_to_spare(self, candidates: int, within_s: float) -> bool:
        """`ScoringQueue.has_time_to_spare`; an engine that one model has to itself is as slow as that is."""
        return self._queue.has_time_to_spare(candidates, within_s if self.users > 1 else math.inf)

    async def forget(self, namespace: str) -> None:
        """Nothing of a namespace's prefixes is left in the engine when this returns, nor comes back by lists that were
        sent before. An engine that is down, or dies meanwhile, has nothing."""
        await self._queue.drain(namespace)
        if self._send is None:
            return
        self._numbers += 1
        self._forgetting[self._numbers] = forgotten = asyncio.get_running_loop().create_future()
        self._send(Forget(self._numbers, namespace))
        with contextlib.suppress(ConnectionError):
            await forgotten

    async def close(self) -> None:
        """End the process; lists that still wait are refused."""
        await self._supervisor.close()
        self._adapters.close()

    def connected(self, ready: Ready, send: Callable[[ToEngine], None]) -> None:
        """From the supervisor: the engine is ready, and takes messages."""
        self.name, self.takes_adapters, self._send = ready.engine, ready.takes_adapters, send
        self._adapters.connect(send)
        self._queue.connect(send, ready.in_flight)

    def disconnected(self) -> None:
        """From the supervisor: the engine is gone; after every life, also one that never was ready."""
        self._send = None
        self._adapters.disconnect()
        self._queue.disconnect()
        for forgotten in self._forgetting.values():
            if not forgotten.done():
                forgotten.set_exception(ConnectionError("the engine died"))
        self._forgetting.clear()

    def received(self, reply: FromEngine) -> None:
        """From the supervisor: the engine says something. What this raises ends it."""
        if isinstance(reply, Scored | NotScored):
            self._queue.take(reply)
        elif isinstance(reply, Progress):
            self._queue.progressed()
        elif isinstance(reply, AdapterLoaded):
            self._adapters.take(reply)
        elif isinstance(reply, Forgotten) and reply.number in self._forgetting:
            forgotten = self._forgetting.pop(reply.number)
            if not forgotten.done():
                forgotten.set_result(None)
        else:
            raise ProtocolError(f"the engine said {type(reply).__name__}, which nobody asked for")

"""The life of an engine's process: started, watched, ended, and started again.

    supervisor = Supervisor(Start("runs/demo/model", "auto"), engine, stuck_s=30.0, start_s=1800.0)
    supervisor.start()
    await supervisor.close()

An engine that dies or is silent with work before it is started again after a pause that doubles from half a second to
ten. That is the circuit breaker: nothing hammers an engine that is not there, and it closes again by itself when the
engine says that it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from reshelf.inference.engines.child import EngineChild
from reshelf.inference.engines.messages import (
    FrameReader,
    FromEngine,
    NotStarted,
    ProtocolError,
    Ready,
    Start,
    ToEngine,
    framed,
)
from reshelf.inference.serving.log import log_once_a_minute

if TYPE_CHECKING:
    from reshelf.inference.serving.engine.served_engine import ServedEngine

logger = logging.getLogger("reshelf.serving")
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_PATIENCE = 10
"""An engine that takes so many times what its work should take is stuck."""


class Supervisor:
    """Keeps one engine process alive.

    Args:
        start: what to start.
        engine: told what happens (`connected`, `received`, `disconnected`), and asked how its work goes.
        stuck_s: seconds without getting further, with work before it, after which the engine is killed; more where that
            work should take long.
        start_s: seconds after which one that is not ready is killed.
    """

    def __init__(self, start: Start, engine: ServedEngine, stuck_s: float, start_s: float) -> None:
        self._start_message = start
        self._engine = engine
        self._stuck_s, self._start_s = stuck_s, start_s
        self.ready = False
        self.starts = 0
        """How often the engine was started."""
        self.problem = ""
        """Why it is not ready, for people."""
        self._child: EngineChild | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.process.pid

    def start(self) -> None:
        """Once; again it changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._supervise())

    async def wait_ready(self) -> bool:
        """True once it is ready, False where its first start failed (`problem` says why)."""
        while not self.ready and not self.problem:
            self._changed.clear()
            await self._changed.wait()
        return self.ready

    async def close(self) -> None:
        """End the process."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._changed.set()

    async def _supervise(self) -> None:
        pause = _PAUSE
        while True:
            self.starts += 1
            said, healthy = "", True
            try:
                await self._live()
            except Exception as error:  # whatever it was, the next life may be better
                said, healthy = str(error) or type(error).__name__, False
                pause = _PAUSE if self.ready else min(2 * pause, _LONGEST_PAUSE)
            finally:
                if self._transport is not None:
                    self._transport.abort()
                self._transport, self.ready = None, False
                self._engine.disconnected()
                await asyncio.shield(self._end(said, healthy))
            log_once_a_minute("engine down", problem=self.problem, pause_s=pause)
            self._changed.set()
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One life of the engine's process."""
        self._child = EngineChild()
        loop = asyncio.get_running_loop()
        transport, messages = await loop.create_connection(lambda: _Messages(self._hear), sock=self._child.socket)
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send(self._start_message)
        started = loop.time()
        while True:
            await asyncio.wait([messages.end], timeout=min(1.0, self._stuck_s / 4, self._start_s / 4))
            patience_s = max(self._stuck_s, _PATIENCE * self._engine.expected_s)
            if messages.end.done():
                messages.end.result()
            elif not self.ready and loop.time() - started > self._start_s:
                raise TimeoutError(f"not ready after {self._start_s:g} s")
            elif self._engine.silent_s > patience_s:
                raise TimeoutError(f"no further for {patience_s:.3g} s with a list before it")

    def _send(self, message: ToEngine) -> None:
        if self._transport is not None:
            self._transport.write(framed(message))

    def _hear(self, reply: FromEngine) -> None:
        """What the engine says, as it comes."""
        if isinstance(reply, NotStarted):
            raise ConnectionError(reply.problem)
        if not isinstance(reply, Ready):
            self._engine.received(reply)
            return
        if self.ready:
            raise ProtocolError("the engine said twice that it is ready")
        self._engine.connected(reply, self._send)
        self.ready, self.problem = True, ""
        self._changed.set()
        described = {"engine": reply.engine, "precision": reply.precision, "starts": self.starts}
        logger.info("engine ready", extra=described)

    async def _end(self, said: str, healthy: bool) -> None:
        """No process of the engine's is left, and it is known why."""
        child, self._child = self._child, None
        if child is not None:
            await asyncio.to_thread(child.end, 5.0 if healthy else 0.0)
            self.problem = child.problem(said)
        else:
            self.problem = said


class _Messages(asyncio.Protocol):
    """Messages out of a stream, each handed on at once: between a list's scores and its reply nothing else waits.

    Args:
        hear: called with each message; what it raises ends the connection.
    """

    def __init__(self, hear: Callable[[FromEngine], None]) -> None:
        self._hear = hear
        self._frames: FrameReader[FromEngine] = FrameReader(FromEngine)
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises why there is no more to come."""

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self._hear(message)
        except Exception as error:
            self._over(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._over(error or ConnectionError("it hung up"))

    def _over(self, error: Exception) -> None:
        if not self.end.done():
            self.end.set_exception(error)
            self.end.exception()  # seen, should nobody wait any more

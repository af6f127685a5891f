"""The server's end of the engine process: starts it, keeps it alive, and holds the queue in front of it.

    link = EngineLink(model, "auto", waiting=64, stuck_s=30.0)
    await link.start()
    done = await link.score(prompt, namespace)     # raises UnservedError with the reason
    await link.load("adapter1", folder)            # another reranker over the same base
    await link.close()

The engine dies or falls silent: the lists it had are refused at once (`UnservedError`), and so are those that come, and
it is started again after a pause that doubles from half a second to ten. That is the circuit breaker: nothing
hammers an engine that is not there, and it closes again by itself when the engine says that it is ready.

Under more load than the engine can take, a list that would only be reached after its deadline is refused at once
(`admit`): the engine's time goes to lists that somebody still waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reshelf.errors import InputError
from reshelf.inference.engines.engine import EngineName
from reshelf.inference.serving.engine_messages import FAILED, READY, Done, Frames, Job, Load, Loaded, Unload, framed

if TYPE_CHECKING:
    from reshelf.prompts.builder import ListPrompt

logger = logging.getLogger("reshelf.serving")
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_ERRORS = 5
"""So many lists in a row that the engine could not score: it is started anew."""
_TRIES = 2
"""So often an adapter is given to an engine that dies of it."""
_MEMORY = 0.95
"""What the engine's pace a list ago still counts now."""
_CARE = 0.8
"""Share of the time left in which the engine is expected to be done: lists before this one may take longer."""


class Pace:
    """How fast an engine goes through tokens while it has work: time over tokens, older lists counting ever less."""

    def __init__(self) -> None:
        self._busy_s, self._tokens, self._lists = 0.0, 0.0, 0.0

    def learn(self, seconds: float, tokens: int) -> None:
        """A list of `tokens` came back `seconds` after the one before, or after it was sent to an idle engine."""
        self._busy_s = _MEMORY * self._busy_s + seconds
        self._tokens = _MEMORY * self._tokens + tokens
        self._lists = _MEMORY * self._lists + 1

    def seconds(self, tokens: int) -> float:
        """Expected for lists of `tokens` in all and one more of usual size; 0 while nothing is known."""
        if not self._tokens:
            return 0.0
        return self._busy_s * (tokens / self._tokens + 1 / self._lists)


class UnservedError(Exception):
    """The engine will not score this list now; the first argument is the reason in one word."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


class EngineLink:
    """One engine process.

    Args:
        model: reranker folder.
        engine: which engine.
        waiting: lists in the queue at most.
        stuck_s: seconds of silence, with work before it, after which the engine is killed.
    """

    def __init__(self, model: Path, engine: EngineName, waiting: int, stuck_s: float) -> None:
        self._settings = json.dumps({"model": str(model), "engine": engine})
        self._most = waiting
        self._stuck_s = stuck_s
        self.name = engine
        """transformers or vllm, once it is ready."""
        self.starts = 0
        """How often it was started."""
        self.problem = ""
        """Why it is not ready, for people."""
        self._queue: deque[tuple[Job, asyncio.Future[Done]]] = deque()
        self._sent: dict[int, tuple[Job, asyncio.Future[Done]]] = {}
        self.shares = False
        """Whether it takes adapters of other rerankers."""
        self.users = 0
        """Rerankers that are served by it; with the last one it ends."""
        self._adapters: dict[str, Path] = {}
        self._loading: dict[str, asyncio.Future[None]] = {}
        self._pace = Pace()
        self._window = 0
        self._numbers = 0
        self._errors = 0
        self._heard = 0.0
        self._writer: asyncio.WriteTransport | None = None
        self._transport: asyncio.WriteTransport | None = None
        """To an engine that may not be ready yet; `_writer` once it is."""
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self._writer is not None

    @property
    def depth(self) -> int:
        """Lists that wait or are being scored."""
        return sum(not f.done() for _, f in self._queue) + len(self._sent)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Once; again it changes nothing."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())

    async def wait_ready(self) -> bool:
        """True once it is ready, False where its first start failed (`problem` says why)."""
        while not self.ready and not self.problem:
            self._changed.clear()
            await self._changed.wait()
        return self.ready

    def admit(self, within_s: float) -> None:
        """Whether it is worth writing a list and waiting for its scores for so many seconds.

        Raises:
            UnservedError: engine_down; queue_full, where the lists before it will take longer.
        """
        if not self.ready:
            raise UnservedError("engine_down")
        waiting = [job for job, future in self._queue if not future.done()] + [job for job, _ in self._sent.values()]
        ahead = self._pace.seconds(sum(job.prompt.tokens for job in waiting))
        # An idle engine is always tried: what is known of its pace may be old.
        if waiting and within_s > 0 and ahead > _CARE * within_s:
            raise UnservedError("queue_full")

    async def load(self, adapter: str, folder: Path) -> None:
        """Have another reranker's adapter scored by, from now on and by every later life of the engine.

        Waits for an engine that is down; but one that dies of the adapter is not given it for ever.

        Raises:
            InputError: it cannot be.
        """
        for _ in range(_TRIES):
            while self._writer is None:
                if self._supervisor is None or self._supervisor.done():
                    raise InputError("the engine has ended")
                self._changed.clear()
                await self._changed.wait()
            self._loading[adapter] = loading = asyncio.get_running_loop().create_future()
            self._writer.write(framed(Load(adapter, str(folder))))
            with contextlib.suppress(UnservedError):
                await loading
                self._adapters[adapter] = folder
                return
        raise InputError(f"{folder}: the engine died {_TRIES} times while it read the adapter")

    def unload(self, adapter: str) -> None:
        """No list will name it any more."""
        self._adapters.pop(adapter, None)
        if self._writer is not None:
            self._writer.write(framed(Unload(adapter)))

    def score(self, prompt: ListPrompt, namespace: str, adapter: str = "") -> asyncio.Future[Done]:
        """Scores of one list, on their way. A caller that stops waiting takes its list out of the queue.

        Raises:
            UnservedError: engine_down, queue_full, or engine_error.
        """
        if not self.ready:
            raise UnservedError("engine_down")
        if sum(not f.done() for _, f in self._queue) >= self._most:
            raise UnservedError("queue_full")
        self._numbers += 1
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._queue.append((Job(self._numbers, namespace, prompt, adapter), future))
        self._send()
        return future

    async def close(self) -> None:
        """End the process; lists that still wait are refused."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._refuse()
        self._changed.set()

    def _send(self) -> None:
        """As many lists as the engine takes at one time."""
        while self._writer is not None and self._queue and len(self._sent) < self._window:
            job, future = self._queue.popleft()
            if future.done():  # nobody waits for it any more
                continue
            if not self._sent:
                self._heard = asyncio.get_running_loop().time()
            self._sent[job.number] = job, future
            self._writer.write(framed(job))

    def _hear(self, said: Any) -> None:
        """What the engine says, as it comes."""
        if isinstance(said, Done):
            self._take(said)
            self._send()
        elif isinstance(said, Loaded):
            self._take_loaded(said)
        elif said[0] == FAILED:
            self.problem = said[1]
            raise ConnectionError(self.problem)
        else:
            assert said[0] == READY
            _, self.name, self._window, self.shares = said
            assert self._transport is not None
            for adapter, folder in self._adapters.items():
                self._transport.write(framed(Load(adapter, str(folder))))
            self._writer, self.problem, self._pace = self._transport, "", Pace()
            self._heard = asyncio.get_running_loop().time()
            self._changed.set()
            logger.info("engine ready", extra={"engine": self.name, "starts": self.starts})

    def _take(self, done: Done) -> None:
        now = asyncio.get_running_loop().time()
        job, future = self._sent.pop(done.number)
        self._pace.learn(now - self._heard, job.prompt.tokens)
        self._heard = now
        self._errors = self._errors + 1 if done.error else 0
        if done.error:
            logger.error("engine error", extra={"error": done.error})
        if not future.done():
            if done.error:
                future.set_exception(UnservedError("engine_error"))
            else:
                future.set_result(done)
        if self._errors >= _ERRORS:
            raise ConnectionError(f"{_ERRORS} lists in a row failed, the last with {done.error}")

    def _take_loaded(self, said: Loaded) -> None:
        waiting = self._loading.pop(said.adapter, None)
        if said.problem and waiting is None:
            logger.error("adapter not loaded again", extra={"problem": said.problem})
        if waiting is not None and not waiting.done():
            if said.problem:
                waiting.set_exception(InputError(said.problem))
            else:
                waiting.set_result(None)

    def _refuse(self) -> None:
        for loading in self._loading.values():
            if not loading.done():
                loading.set_exception(UnservedError("engine_down"))
        self._loading.clear()
        for _, future in [*self._sent.values(), *self._queue]:
            if not future.done():
                future.set_exception(UnservedError("engine_down"))
                future.exception()  # seen, should its caller be gone
        self._sent.clear()
        self._queue.clear()

    async def _supervise(self) -> None:
        pause = _PAUSE
        while True:
            self.starts += 1
            try:
                await self._run()
            except Exception as error:  # whatever it was, the next life may be better
                pause = _PAUSE if self.ready else min(2 * pause, _LONGEST_PAUSE)
                self.problem = self.problem or f"the engine ended: {error or type(error).__name__}"
            finally:
                if self._transport is not None:
                    self._transport.abort()
                self._transport, self._writer, self._errors = None, None, 0
                self._refuse()
                await asyncio.shield(self._end())
            logger.error("engine down", extra={"problem": self.problem, "pause_s": pause})
            self._changed.set()
            await asyncio.sleep(pause)

    async def _run(self) -> None:
        """One life of the engine process."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", __name__.replace("engine_link", "engine_process"), str(theirs.fileno()),
                self._settings, pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, preexec_fn=os.setpgrp,
            )  # fmt: skip
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        self._transport, messages = await loop.create_connection(lambda: _Messages(self._hear), sock=ours)
        while True:
            await asyncio.wait([messages.end], timeout=min(1.0, self._stuck_s / 4))
            if messages.end.done():
                messages.end.result()
            elif self._sent and loop.time() - self._heard > self._stuck_s:
                raise TimeoutError(f"silent for {self._stuck_s:g} s with a list before it")

    async def _end(self) -> None:
        """No process of the engine's is left."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM if self.pid and not self.problem else signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


class _Messages(asyncio.Protocol):
    """Messages out of a stream, each handed on at once: between a list's scores and its reply nothing else waits.

    Args:
        hear: called with each message; what it raises ends the connection.
    """

    def __init__(self, hear: Callable[[Any], None]) -> None:
        self._hear = hear
        self._frames = Frames()
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

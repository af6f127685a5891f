"""An engine in a process of its own, used from Python as one in this process.

    with EngineProcess(Start("runs/demo/model", "vllm")) as engine:
        scores = engine.score(prompts)

The reranker's weights are loaded in that process only.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from reshelf.errors import InputError
from reshelf.inference.engines.child import EngineChild
from reshelf.inference.engines.messages import (
    CHUNK,
    AdapterLoaded,
    Forget,
    Forgotten,
    FrameReader,
    FromEngine,
    LoadAdapter,
    NotScored,
    NotStarted,
    Progress,
    ProtocolError,
    Ready,
    Score,
    Scored,
    ScorePairs,
    Start,
    StartExported,
    ToEngine,
    UnloadAdapter,
    decode_scores,
    encode_list,
    framed,
)
from reshelf.prompts.list_prompt import ListPrompt

_START_S = 1800.0
"""An engine that has not started after so long will not."""
_TOKENS = 1 << 22
"""Token ids in one message, far below what one may hold."""
_TAIL = 20
"""Lines of a failed engine's output that its error shows."""
R = TypeVar("R")


class EngineProcess:
    """Scores by an engine in a process beside this one; calls from several threads take turns.

    Args:
        start: which reranker, or exported checkpoint, by which engine.

    Raises:
        InputError: the reranker cannot be loaded, or the engine cannot serve it.
        RuntimeError: the engine did not start; the message says the cause, and ends with the last lines it printed.
    """

    def __init__(self, start: Start | StartExported) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._frames: FrameReader[FromEngine] = FrameReader(FromEngine)
        self._said: list[FromEngine] = []
        self._child: EngineChild | None = EngineChild()
        ready = self._exchange(start, Ready, _START_S)
        self.name: Literal["transformers", "vllm"] = ready.engine
        self.takes_adapters = ready.takes_adapters
        self.precision = ready.precision
        self.prompt_tokens = 0
        """Tokens of all lists so far."""
        self.cached_tokens = 0
        """Those of them that had been read before."""

    def score(self, prompts: Sequence[ListPrompt], namespace: str = "", adapter: str = "") -> list[np.ndarray]:
        """Raw log-odds of every candidate, float32 [K] per list, in the order of the candidates.

        Raises:
            InputError: a prompt is longer than the engine was started for, or there is no such adapter.
            RuntimeError: the engine failed, or its process ended.
        """
        scores: list[np.ndarray] = []
        for group in _groups(prompts):
            lists = tuple(encode_list(prompt) for prompt in group)
            reply = self._scored(Score(next(self._numbers), lists, namespace, adapter))
            scores += decode_scores(reply, [len(prompt.items) for prompt in group])
        return scores

    def score_pairs(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """float32 [N] of N pairs of texts, by an exported checkpoint."""
        reply = self._scored(ScorePairs(next(self._numbers), tuple(left), tuple(right)))
        return decode_scores(reply, [len(left)])[0]

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load the adapter of another reranker folder, trained over the same base.

        Raises:
            InputError: it cannot be read, or does not fit this engine.
        """
        loaded = self._exchange(LoadAdapter(name, str(folder)), AdapterLoaded)
        if loaded.problem:
            raise InputError(loaded.problem)

    def remove_adapter(self, name: str) -> None:
        """No list will name it any more."""
        self._check_process()
        with self._lock, contextlib.suppress(OSError):
            if self._child is not None:
                self._child.socket.sendall(framed(UnloadAdapter(name)))

    def forget(self, namespace: str = "") -> None:
        """Drop what is kept of a namespace's prefixes."""
        self._exchange(Forget(next(self._numbers), namespace), Forgotten)

    def close(self) -> None:
        """End the process; it cannot be used after."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scored(self, message: Score | ScorePairs) -> Scored:
        reply = self._exchange(message, Scored)
        self.prompt_tokens += reply.prompt_tokens
        self.cached_tokens += reply.cached_tokens
        return reply

    def _check_process(self) -> None:
        """Forks that spoke to the same engine would read each other's scores."""
        if self._child is not None and self._child.starter != os.getpid():
            raise RuntimeError(
                f"the engine belongs to process {self._child.starter}, which forked this one; load a reranker in each "
                "process that uses one"
            )

    def _exchange(self, message: ToEngine, kind: type[R], within_s: float | None = None) -> R:
        """Send, and wait for the answer."""
        self._check_process()
        with self._lock:
            if self._child is None:
                raise RuntimeError("the engine is closed")
            try:
                self._child.socket.sendall(framed(message))
                while isinstance(reply := self._next(within_s), Progress):
                    pass
            except (ProtocolError, TimeoutError) as error:
                raise self._failed(str(error)) from error
            except (OSError, EOFError) as error:  # it hung up: why, its output or its exit code says
                raise self._failed("") from error
            except BaseException:  # interrupted between a message and its answer: the next answer would be this one's
                self.close()
                raise
        if isinstance(reply, NotScored):
            raise InputError(reply.problem) if reply.bad_input else RuntimeError(reply.problem)
        if isinstance(reply, NotStarted):
            if reply.bad_input:
                self.close()
                raise InputError(reply.problem)
            raise self._failed(reply.problem)
        if not isinstance(reply, kind):
            raise self._failed(f"it answered {type(message).__name__} with {type(reply).__name__}")
        return reply

    def _next(self, within_s: float | None) -> FromEngine:
        assert self._child is not None
        until = None if within_s is None else time.monotonic() + within_s
        while not self._said:
            self._child.socket.settimeout(None if until is None else max(0.001, until - time.monotonic()))
            try:
                data = self._child.socket.recv(CHUNK)
            except TimeoutError as error:
                raise TimeoutError(f"it said nothing for {within_s:.0f} s") from error
            if not data:
                raise EOFError
            self._said += self._frames.feed(data)
        return self._said.pop(0)

    def _failed(self, message: str) -> RuntimeError:
        """End what is left of the process, and say why."""
        child, self._child = self._child, None
        assert child is not None
        child.end(1.0)
        started = "failed" if hasattr(self, "name") else "did not start"
        return RuntimeError("\n".join([f"the engine {started}: {child.problem(message)}", *child.output.tail(_TAIL)]))


def _groups(prompts: Sequence[ListPrompt]) -> Iterator[list[ListPrompt]]:
    """Lists that go into one message."""
    group: list[ListPrompt] = []
    used = 0
    for prompt in prompts:
        if group and used + prompt.tokens > _TOKENS:
            yield group
            group, used = [], 0
        group.append(prompt)
        used += prompt.tokens
    if group:
        yield group

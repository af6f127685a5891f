"""What the server and its engine process say to each other: pickles in a stream, each behind its size.

Job(7, "tenant", prompt)         →   Done(7, scores.tobytes(), ms=41.0)
Load("adapter1", "runs/other")   →   Loaded("adapter1")

socket.sendall(framed(job))
for message in frames.feed(socket.recv(MOST)): ...
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from reshelf.prompts.builder import ListPrompt

READY, FAILED = "ready", "failed"
WINDOWS = {"transformers": 2, "vllm": 64}
"""Lists sent to the engine at one time: one to work on and the next, or as many as vLLM can do together."""
MOST = 1 << 20
"""Bytes to take from a stream at once."""
_SIZE = struct.Struct("!I")


@dataclass(frozen=True)
class Job:
    """A list to score."""

    number: int
    namespace: str
    """Prefixes are shared within it only."""
    prompt: ListPrompt
    adapter: str = ""
    """By which adapter; empty for the engine's own."""


@dataclass(frozen=True)
class Done:
    """Its scores, or what went wrong."""

    number: int
    values: bytes | None
    """Those of `scores`."""
    ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    error: str = ""

    @property
    def scores(self) -> np.ndarray | None:
        """float32 [K]."""
        return None if self.values is None else np.frombuffer(self.values, dtype=np.float32)


@dataclass(frozen=True)
class Load:
    """Another reranker over the same base, to score by its adapter."""

    adapter: str
    folder: str


@dataclass(frozen=True)
class Loaded:
    """It can be scored by now, or not, for this reason."""

    adapter: str
    problem: str = ""


@dataclass(frozen=True)
class Unload:
    """No list will name this adapter any more."""

    adapter: str


def framed(message: Any) -> bytes:
    """A message as it stands in the stream."""
    data = pickle.dumps(message, protocol=5)
    return _SIZE.pack(len(data)) + data


class Frames:
    """Messages out of a stream, which may come in any pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are whole with the stream's next bytes."""
        self._data += data
        while len(self._data) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            message = bytes(memoryview(self._data)[_SIZE.size : end])
            del self._data[:end]
            yield pickle.loads(message)

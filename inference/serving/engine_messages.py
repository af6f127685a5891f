"""What the server and its engine process say to each other, pickled.

Job(7, "tenant", prompt)   →   Done(7, scores.tobytes(), ms=41.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from reshelf.prompts.builder import ListPrompt

READY, FAILED = "ready", "failed"
WINDOWS = {"transformers": 2, "vllm": 64}
"""Lists sent to the engine at one time: one to work on and the next, or as many as vLLM can do together."""


@dataclass(frozen=True)
class Job:
    """A list to score."""

    number: int
    namespace: str
    """Prefixes are shared within it only."""
    prompt: ListPrompt


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

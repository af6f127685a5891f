"""The engine that is always there: transformers, a list as one sequence, the prefix read once.

    engine = TransformersEngine(trained.model, joint=False)
    scores = engine.score(prompts)

Lists are packed into forward passes of bounded size. A list too long for one pass is cut into groups of candidates,
each behind its own copy of the prefix; scores do not depend on how lists are grouped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from reshelf.modeling.packing import pack
from reshelf.modeling.score import score
from reshelf.prompts.builder import ListPrompt


@dataclass(frozen=True)
class Budget:
    """Bounds of one forward pass."""

    tokens: int = 16384
    """Tokens in one row."""
    attention: int = 1 << 26
    """Attention weights of one list, heads x item tokens x tokens seen; a few float32 copies of them exist at once."""


class TransformersEngine:
    """Scores with the model in this process.

    Args:
        model: as `load_reranker` gives it, on its device.
        joint: the model was trained with candidates that see those before them; its lists are never cut.
        budget: bounds of one forward pass; memory grows with it, speed hardly beyond the default.
    """

    name = "transformers"

    def __init__(self, model: Any, joint: bool = False, budget: Budget | None = None) -> None:
        self._model = model.eval()
        self._joint = joint
        self._budget = budget or Budget()
        self._heads = model.config.get_text_config().num_attention_heads

    @torch.inference_mode()
    def score(self, prompts: Sequence[ListPrompt]) -> list[np.ndarray]:
        """Raw log-odds of every candidate, float32 [K] per list, in the order of the candidates."""
        scores: list[list[np.ndarray]] = [[] for _ in prompts]
        device = self._model.device
        for group in self._passes(prompts):
            batch = pack([part for _, part in group], joint=self._joint)
            values = score(self._model, batch.to(device)).cpu().numpy()
            pieces = np.split(values, np.cumsum(batch.sizes)[:-1])
            for (row, _), piece in zip(group, pieces, strict=True):
                scores[row].append(piece)
        return [np.concatenate(pieces) for pieces in scores]

    def close(self) -> None:
        """Let go of the model."""
        self._model = None

    def _passes(self, prompts: Sequence[ListPrompt]) -> Iterator[list[tuple[int, ListPrompt]]]:
        """Lists, or groups of a list's candidates, that share a forward pass; with the list each belongs to."""
        group: list[tuple[int, ListPrompt]] = []
        used = 0
        for row, prompt in enumerate(prompts):
            for part in self._parts(prompt):
                size = len(part.prefix) + sum(map(len, part.items))
                if group and used + size > self._budget.tokens:
                    yield group
                    group, used = [], 0
                group.append((row, part))
                used += size
        if group:
            yield group

    def _parts(self, prompt: ListPrompt) -> Iterator[ListPrompt]:
        if self._joint:
            yield prompt
            return
        prefix = len(prompt.prefix)
        longest = max(map(len, prompt.items))
        seen = self._heads * longest * (prefix + longest)
        count = max(1, min((self._budget.tokens - prefix) // longest, self._budget.attention // seen))
        # Groups of equal size rather than a full one and a small rest.
        groups = -(-len(prompt.items) // count)
        count = -(-len(prompt.items) // groups)
        for start in range(0, len(prompt.items), count):
            yield replace(prompt, items=prompt.items[start : start + count])

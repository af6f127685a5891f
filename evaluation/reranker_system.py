"""A trained reranker, and its own base model without the finetuning, as systems to compare.

    reranker = Reranker.from_pretrained("runs/demo/model")
    RerankerSystem(reranker).scores(data, lists)                                  # the row "finetuned"
    RerankerSystem(reranker, name="base", adapter=False).scores(data, lists)      # the row "base"

Both rows come from the same folder: same base weights, same prompts, the adapter on or off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from reshelf.data.schema import RankingList
from reshelf.data.store import RankingData
from reshelf.inference.reranker import Reranker


@dataclass
class RerankerSystem:
    """Scores lists with a `Reranker`, a few lists at a time."""

    reranker: Reranker
    name: str = "finetuned"
    adapter: bool = True
    """False: score with the LoRA adapter switched off (transformers engine)."""
    batch: int = 16
    """Lists handed to the engine at once."""
    advance: Callable[[int], None] | None = None
    """Called with the number of lists just scored."""

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] raw log-odds per list."""
        result: list[np.ndarray] = []
        with self._adapter():
            for start in range(0, len(lists), self.batch):
                some = lists[start : start + self.batch]
                result += [np.asarray(s, dtype=np.float64) for s in self.reranker.score_lists(some, data.items)]
                if self.advance is not None:
                    self.advance(len(some))
        return result

    def _adapter(self) -> AbstractContextManager[None]:
        if self.adapter:
            return nullcontext()
        return self.reranker.engine.model.disable_adapter()

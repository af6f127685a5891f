"""Stock vLLM over an exported checkpoint: pairs of texts in, raw log-odds out, as its other users would have it.

engine = VllmPairs(folder, "float32", longest=512)
scores = engine.score([prefix, prefix], [first_item, second_item])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reshelf.inference.engines.dense import Dtype
from reshelf.inference.engines.vllm_engine import start_llm, stop_llm
from reshelf.inference.engines.vllm_settings import VllmSettings


class VllmPairs:
    """`vllm.LLM.score` with the pooling runner.

    Args:
        folder: a sequence-classification checkpoint.
        dtype: weights and computation.
        longest: tokens of the longest pair.

    Raises:
        InputError: vLLM cannot serve this model.
    """

    def __init__(self, folder: Path, dtype: Dtype, longest: int) -> None:
        self._llm = start_llm(folder, dtype, longest, VllmSettings())

    def score(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """float32 [N] of N pairs."""
        outputs = self._llm.score(list(left), list(right), use_tqdm=False)
        return np.array([output.outputs.score for output in outputs], dtype=np.float32)

    def close(self) -> None:
        """Stop vLLM."""
        stop_llm(self._llm)

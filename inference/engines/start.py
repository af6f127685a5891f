"""The engine of a loaded reranker.

engine = start_engine(load_reranker(folder), "auto")
"""

from __future__ import annotations

from reshelf.inference.engines.engine import EngineName, choose_engine
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.engines.vllm_engine import VllmEngine, VllmSettings
from reshelf.modeling.checkpoint import TrainedReranker


def start_engine(
    trained: TrainedReranker, name: EngineName, vllm: VllmSettings | None = None
) -> TransformersEngine | VllmEngine:
    """Start it.

    Args:
        trained: the reranker.
        name: which engine; auto is the one that fits this machine.
        vllm: how vLLM runs.

    Raises:
        InputError: the engine is not installed, or cannot serve this model.
        RuntimeError: vLLM did not start.
    """
    if choose_engine(name) == "transformers":
        return TransformersEngine(trained.model)
    return VllmEngine(trained, vllm)

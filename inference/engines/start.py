"""The engine of a reranker folder.

engine = start_engine(Path("runs/demo/model"), "auto")
"""

from __future__ import annotations

from pathlib import Path

from reshelf.inference.engines.engine import Engine, EngineName, choose_engine
from reshelf.inference.engines.engine_process import EngineProcess
from reshelf.inference.engines.messages import Start
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.engines.vllm_settings import VllmSettings, with_precision
from reshelf.modeling.precision import Precision


def start_engine(
    folder: Path,
    name: EngineName,
    device: str | None = None,
    vllm: VllmSettings | None = None,
    trust_remote_code: bool = False,
    precision: Precision = "auto",
) -> Engine:
    """Start it: transformers in this process, vLLM in one of its own.

    Args:
        folder: of the reranker.
        name: which engine; auto is the one that fits this machine.
        device: where the weights are loaded, `cpu`, `cuda` or `cuda:1`; None is the GPU if there is one.
        vllm: how vLLM runs.
        trust_remote_code: whether Python code that comes with the base may run.
        precision: in which numbers scores are computed (`modeling.precision`).

    Raises:
        InputError: the reranker cannot be loaded, or the engine is not installed or cannot serve this model.
        RuntimeError: vLLM did not start; the message says why.
    """
    if choose_engine(name, folder) == "transformers":
        return TransformersEngine.load(folder, precision, device, trust_remote_code)
    settings = with_precision(vllm or VllmSettings(), precision)
    return EngineProcess(Start(str(folder.absolute()), "vllm", device, settings, trust_remote_code=trust_remote_code))

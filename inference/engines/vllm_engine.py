"""The vLLM engine: token ids in, raw log-odds out, the prefix of a list computed once.

    engine = VllmEngine(trained)
    scores = engine.score(prompts)

A list is one request per candidate: the first one fills the prefix cache, the others find the prefix there, and so does
the shopper's next list.

vLLM prints what it likes and starts processes that import the main script again, so library code never makes this
engine in the caller's process: `EngineProcess` runs it in one of its own.
vLLM 0.32 does not load bitsandbytes weights, so it serves the dense weights the adapter was trained over
(`inference.engines.dense`), with the adapter merged into them or given by request.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reshelf.errors import InputError
from reshelf.inference.engines.dense import Dtype, write_dense
from reshelf.inference.engines.vllm_settings import VllmSettings
from reshelf.modeling.checkpoint import TrainedReranker, reading_adapter
from reshelf.modeling.spec import ADAPTER
from reshelf.prompts.list_prompt import ListPrompt

_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_LORAS = 8
"""Adapters in memory at one time; others are read again from their folders when they are asked for."""
_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


class VllmEngine:
    """Scores with vLLM, started from this process.

    Args:
        trained: the reranker; its weights are copied, and it is moved to the CPU to make room.
        settings: how vLLM runs.

    Raises:
        InputError: vLLM cannot serve this model, or this way.
        Exception: see `start_llm`.
    """

    name: Literal["transformers", "vllm"] = "vllm"

    def __init__(self, trained: TrainedReranker, settings: VllmSettings | None = None) -> None:
        settings = settings or VllmSettings()
        dtype: Dtype = settings.dtype or trained.spec.model.dtype
        self.precision: str = dtype
        merge = settings.lora == "merged"
        self._files = tempfile.TemporaryDirectory(prefix="reshelf-vllm-")
        weights = Path(self._files.name) / "weights"
        write_dense(trained, weights, merge, dtype)
        if trained.device != "cpu":
            trained.model.to("cpu")
            torch.cuda.empty_cache()
        options: dict[str, Any] = {}
        self.takes_adapters = not merge
        self._numbers = count(1)
        self._loras: dict[str, Any] = {"": None}
        """Requests for adapters, by name; of the reranker's own that is empty."""
        self._rank = 0 if merge else _lora_rank(trained)
        if not merge:
            options = {"enable_lora": True, "max_loras": _LORAS, "max_lora_rank": self._rank}
        limit = trained.model.config.get_text_config().max_position_embeddings
        self._longest = settings.longest or min(trained.builder({}).longest, limit)
        try:
            kept = 8 if trained.spec.candidates == "joint" else 64
            self._llm = start_llm(weights, dtype, self._longest, settings, kept, **options)
        except BaseException:
            self._files.cleanup()
            raise
        if not merge:
            self._loras[""] = self._request("own", trained.folder / ADAPTER)
        self.prompt_tokens = 0
        """Tokens of all requests so far."""
        self.cached_tokens = 0
        """Those of them that were found in the prefix cache."""

    def score(self, prompts: Sequence[ListPrompt], namespace: str = "", adapter: str = "") -> list[np.ndarray]:
        """Raw log-odds of every candidate, float32 [K] per list, in the order of the candidates.

        Raises:
            InputError: a prompt is longer than the engine was started for.
        """
        if not prompts:
            return []
        for prompt in prompts:
            length = len(prompt.prefix) + max(len(item) for item in prompt.items)
            if length > self._longest:
                raise InputError(f"list {prompt.list_id}: a prompt of {length} tokens, and vLLM holds {self._longest}")
        # One list after the other, in order: vLLM schedules first come, first served and registers a prefix's blocks
        # as soon as its first request is scheduled, so the list's other requests find them.
        requests = [
            [*prefix, *item.tolist()]
            for prompt in prompts
            for prefix in [prompt.prefix.tolist()]
            for item in prompt.items
        ]
        values = self._ask(requests, namespace, adapter)
        return np.split(values, np.cumsum([len(prompt.items) for prompt in prompts])[:-1])

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load the adapter of another reranker folder, trained over the same base.

        Raises:
            InputError: the weights are merged; or the name is taken; or the adapter cannot be read, or its rank is
                above the first one's.
        """
        if not self.takes_adapters:
            raise InputError("vLLM serves this reranker with its adapter merged; other adapters need lora by_request")
        if name in self._loras:
            raise InputError(f"there is an adapter {name!r} in this engine; remove it first")
        from peft import LoraConfig

        with reading_adapter(folder) as adapter:
            rank = _highest_rank(LoraConfig.from_pretrained(str(adapter)))
            if rank > self._rank:
                raise InputError(f"{adapter}: rank {rank}, and vLLM was started for up to {self._rank}")
            lora = self._request(name, adapter)
            self._llm.llm_engine.add_lora(lora)
        self._loras[name] = lora

    def remove_adapter(self, name: str) -> None:
        """Forget it."""
        if (lora := self._loras.pop(name, None)) is not None:
            self._llm.llm_engine.remove_lora(lora.lora_int_id)

    def _request(self, name: str, adapter: Path) -> Any:
        from vllm.lora.request import LoRARequest

        number = next(self._numbers)
        # vLLM finds kept prefixes by the adapter's name and path: with a number in it, no other one's are found.
        return LoRARequest(f"{name}.{number}", number, str(adapter))

    def _ask(self, requests: Sequence[list[int]], namespace: str, adapter: str) -> np.ndarray:
        """The classifier's own values, without the sigmoid that is vLLM's default, float32 [requests]."""
        from vllm import PoolingParams

        try:
            lora = self._loras[adapter]
        except KeyError as error:
            raise InputError(f"there is no adapter {adapter!r} in this engine") from error
        salt = {"cache_salt": namespace} if namespace else {}
        outputs = self._llm.encode(
            [{"prompt_token_ids": ids} | salt for ids in requests],
            pooling_params=PoolingParams(use_activation=False),
            pooling_task="classify",
            lora_request=lora,
            use_tqdm=False,
        )
        self.prompt_tokens += sum(map(len, requests))
        self.cached_tokens += sum(output.num_cached_tokens for output in outputs)
        return np.array([float(output.outputs.data[0]) for output in outputs], dtype=np.float32)

    def forget(self, namespace: str = "") -> None:
        """Drop the prefix cache, of every namespace: vLLM has no way to drop one's blocks.

        Raises:
            RuntimeError: vLLM did not.
        """
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not drop its prefix cache")

    def close(self) -> None:
        """Stop vLLM and remove the dense weights."""
        if self._llm is not None:
            stop_llm(self._llm)
            self._llm = None
            self._files.cleanup()


def start_llm(weights: Path, dtype: Dtype, longest: int, settings: VllmSettings, kept: int = 64, **options: Any) -> Any:
    """`vllm.LLM` over a sequence-classification checkpoint.

    Args:
        kept: prompts of `longest` tokens for which there is room in the cache, on a CPU.

    Raises:
        InputError: the model's heads have a size that vLLM's CPU kernels do not have.
        Exception: whatever vLLM raises where it does not start; the cause is in what its processes printed.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(weights).get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    on_gpu = torch.cuda.is_available()
    if not on_gpu and head not in _CPU_HEAD_SIZES:
        raise InputError(
            f"vLLM on a CPU has no attention for heads of size {head}, only for "
            f"{', '.join(map(str, _CPU_HEAD_SIZES))}; use engine transformers"
        )
    if longest > config.max_position_embeddings:
        raise InputError(f"prompts may be {longest} tokens long, but the model reads {config.max_position_embeddings}")
    if on_gpu:
        options["gpu_memory_utilization"] = settings.gpu_memory
    else:
        # By itself vLLM 0.32 keeps one core for its scheduler, which hardly needs it; in one process every core
        # computes (findings/vllm_cpu_leaves_a_core_idle.sh).
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # Compiling a graph takes longer than it saves on a CPU; whole blocks are cached, so they should be small.
        options |= {"enforce_eager": True, "block_size": 32}
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * (4 if dtype == "float32" else 2)
        options["kv_cache_memory_bytes"] = max(kept * longest * per_token, 64 << 20)
    if settings.cache_gib is not None:
        options["kv_cache_memory_bytes"] = int(settings.cache_gib * (1 << 30))
    from vllm import LLM

    return LLM(
        model=str(weights),
        runner="pooling",
        dtype=dtype,
        max_model_len=longest,
        max_num_batched_tokens=max(settings.batch_tokens, longest),
        enable_prefix_caching=True,
        seed=0,
        disable_log_stats=True,
        log_level="ERROR",
        **options,
    )


def stop_llm(llm: Any) -> None:
    """End vLLM's processes."""
    llm.llm_engine.engine_core.shutdown()


def _lora_rank(trained: TrainedReranker) -> int:
    rank = _highest_rank(trained.model.peft_config["default"])
    fitting = [r for r in _LORA_RANKS if r >= rank]
    if not fitting:
        raise InputError(f"adapter rank {rank} is above vLLM's largest, {_LORA_RANKS[-1]}; serve it merged")
    return fitting[0]


def _highest_rank(config: Any) -> int:
    """Of the layers of a peft LoraConfig."""
    return max([config.r, *(config.rank_pattern or {}).values()])

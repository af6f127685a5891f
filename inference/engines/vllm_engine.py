"""The vLLM engine: token ids in, raw log-odds out, the prefix of a list computed once.

    engine = VllmEngine(trained)
    scores = engine.score(prompts)
    engine.cached_share        # part of the prompt tokens that came from the prefix cache

A list is one request per candidate: the first one fills the prefix cache, the others find the prefix there, and so does
the shopper's next list.

vLLM runs in a process of its own, which does not import the calling script. Its start-up messages go to a log file,
which is shown when it does not start.
vLLM 0.32 does not load bitsandbytes weights, so it serves the dense weights the adapter was trained over
(`inference.engines.dense`), with the adapter merged into them or given by request.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch

from reshelf.errors import InputError
from reshelf.inference.engines.dense import Dtype, write_dense
from reshelf.modeling.checkpoint import ADAPTER, TrainedReranker, reading_adapter
from reshelf.prompts.builder import ListPrompt

_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_LORAS = 8
"""Adapters in memory at one time; others are read again from their folders when they are asked for."""
_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs."""

    lora: Literal["merged", "by_request"] = "merged"
    """merged: the adapter added to the weights. by_request: a dense base and the adapter beside it, and others over the
    same base; on a CPU its kernels are about 8 times slower."""
    dtype: Dtype | None = None
    """Weights and computation; None is the type the reranker was trained in. Never left to vLLM, which would cast
    float32 checkpoints to float16."""
    longest: int | None = None
    """Tokens of one request that must fit: prefix + one item. None takes it from the reranker's budgets and the model's
    limit."""
    batch_tokens: int = 8192
    """Tokens per engine step."""
    cache_gib: float | None = None
    """Memory of the prefix cache in GiB; None takes what `gpu_memory` leaves on a GPU, and room for 64 of the longest
    prompts, or 8 of the longest joint ones, on a CPU."""
    gpu_memory: float = 0.9
    """Share of the GPU's memory that vLLM may take."""


class VllmEngine:
    """Scores with vLLM in a process beside this one.

    Args:
        trained: the reranker; its weights are copied, and it is moved to the CPU to make room.
        settings: how vLLM runs.

    Raises:
        InputError: vLLM cannot serve this model, or this way.
        RuntimeError: vLLM did not start; the message ends with its log.
    """

    name = "vllm"

    def __init__(self, trained: TrainedReranker, settings: VllmSettings | None = None) -> None:
        settings = settings or VllmSettings()
        dtype: Dtype = settings.dtype or trained.spec.model.dtype
        merge = settings.lora == "merged"
        self._files = tempfile.TemporaryDirectory(prefix="reshelf-vllm-")
        weights = Path(self._files.name) / "weights"
        write_dense(trained, weights, merge, dtype)
        if trained.device != "cpu":
            trained.model.to("cpu")
            torch.cuda.empty_cache()
        options: dict[str, Any] = {}
        self.shares = not merge
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
            InputError: the weights are merged; or the adapter cannot be read, or its rank is above the first one's.
        """
        if not self.shares:
            raise InputError("vLLM serves this reranker with its adapter merged; other adapters need lora by_request")
        with reading_adapter(folder) as adapter:
            rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
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

        return LoRARequest(name, next(self._numbers), str(adapter))

    def _ask(self, requests: Sequence[list[int]], namespace: str, adapter: str) -> np.ndarray:
        """The classifier's own values, without the sigmoid that is vLLM's default, float32 [requests]."""
        from vllm import PoolingParams

        salt = {"cache_salt": namespace} if namespace else {}
        outputs = self._llm.encode(
            [{"prompt_token_ids": ids} | salt for ids in requests],
            pooling_params=PoolingParams(use_activation=False),
            pooling_task="classify",
            lora_request=self._loras[adapter],
            use_tqdm=False,
        )
        self.prompt_tokens += sum(map(len, requests))
        self.cached_tokens += sum(output.num_cached_tokens for output in outputs)
        return np.array([float(output.outputs.data[0]) for output in outputs], dtype=np.float32)

    @property
    def cached_share(self) -> float:
        """Share of all prompt tokens so far that were found in the prefix cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

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
        RuntimeError: it did not start; the message ends with its log.
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
        # Compiling a graph takes longer than it saves on a CPU; whole blocks are cached, so they should be small.
        options |= {"enforce_eager": True, "block_size": 32}
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * (4 if dtype == "float32" else 2)
        options["kv_cache_memory_bytes"] = max(kept * longest * per_token, 64 << 20)
    if settings.cache_gib is not None:
        options["kv_cache_memory_bytes"] = int(settings.cache_gib * (1 << 30))
    with _quiet("vLLM did not start"), _without_main():
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
    config = trained.model.peft_config["default"]
    rank = max([config.r, *config.rank_pattern.values()])
    fitting = [r for r in _LORA_RANKS if r >= rank]
    if not fitting:
        raise InputError(f"adapter rank {rank} is above vLLM's largest, {_LORA_RANKS[-1]}; serve it merged")
    return fitting[0]


@contextmanager
def _without_main() -> Iterator[None]:
    """Let processes that start meanwhile not import the caller's script.

    `spawn` runs the main script's imports again in every child. They can break it: once numba is imported, vLLM 0.32
    on a CPU does not start (its search for kernels trips over an object of llvmlite).
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _quiet(problem: str) -> Iterator[None]:
    """Send what this process and the processes it starts meanwhile print to a log file.

    Redirects the file descriptors, since libraries and child processes do not go through `sys.stdout`. Children keep
    the log file as their output; it is deleted and lives as long as they do.
    """
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception as error:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            # The first traceback is the cause; those after it are other processes noticing.
            first = next((n for n, line in enumerate(lines) if "Traceback" in line), max(0, len(lines) - 40))
            raise RuntimeError("\n".join([f"{problem}: {error}", *lines[first : first + 40]])) from error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for old, new in zip(saved, (1, 2), strict=True):
                os.dup2(old, new)
                os.close(old)

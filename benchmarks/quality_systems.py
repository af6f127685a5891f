"""Every system of a quality table by name, fitted, and its scores on disk.

system, facts = make("lambdamart", data, run, model)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality_recipe import EVERY
from reshelf.cli import load
from reshelf.data.schema import RankingList
from reshelf.data.store import RankingData, atomic
from reshelf.evaluation.baselines.numbers import TEACHER
from reshelf.evaluation.reranker_system import RerankerSystem
from reshelf.inference.reranker import Reranker

SYSTEMS = (*EVERY, "best_possible")


@dataclass
class Made:
    """What a system gave."""

    scores: dict[str, list[np.ndarray]]
    """Split -> float64 [K] per list."""
    facts: dict[str, Any]
    """What its training settled on."""
    seconds: float
    """Training and scoring."""

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = {split: np.concatenate(values) for split, values in self.scores.items()}
        about = json.dumps({"facts": self.facts, "seconds": self.seconds}, default=str)
        with atomic(path) as partial, partial.open("wb") as file:
            np.savez(file, about=np.array(about), **flat)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path, data: RankingData) -> Made:
        with np.load(path) as held:
            about = json.loads(str(held["about"]))
            scores = {
                split: np.split(held[split], np.cumsum([len(one.candidates) for one in data.lists[split]])[:-1])
                for split in ("valid", "test")
            }
        return cls(scores, about["facts"], about["seconds"])


CLASSES = {
    "random": "random_order.RandomOrder",
    "first_stage": "first_stage.FirstStage",
    "bm25": "bm25.Bm25",
    "popularity": "popularity.Popularity",
    "item_cf": "item_cf.ItemCf",
    "matrix_factorisation": "matrix_factorisation.MatrixFactorisation",
    "lambdamart": "lambdamart.LambdaMart",
    "lstm_ranknet": "lstm.Lstm",
    "lstm_listwise": "lstm.Lstm",
    "text_cnn": "text_cnn.TextCnn",
    "embedding_mlp": "embedding_mlp.EmbeddingMlp",
    "best_possible": "best_possible.BestPossible",
}
"""Module and class in reshelf.evaluation.baselines."""
OPTIONS = {"lstm_ranknet": {"loss": "ranknet"}, "lstm_listwise": {"loss": "listwise"}}


class Teacher:
    """The teacher's scores as they stand in the lists."""

    name = TEACHER

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        return [np.asarray(one.features[TEACHER]) for one in lists]


def make(name: str, data: RankingData, run: Path, model: Path) -> tuple[Any, Callable[[], dict[str, Any]]]:
    """A system that can score (fitted, where it learns), and how to ask what its training settled on."""
    if name in CLASSES:
        system = load(f"reshelf.evaluation.baselines.{CLASSES[name]}")(**OPTIONS.get(name, {}))
    elif name == "multimodal":
        system = load("reshelf.evaluation.baselines.multimodal.Multimodal")(images=run / "data")
    elif name == TEACHER:
        system = Teacher()
    else:
        system = RerankerSystem(Reranker.from_pretrained(model, "transformers", catalogue=data.items), name)
    if hasattr(system, "fit"):
        system.fit(data)
    return system, lambda: dict(getattr(system, "chosen", {}))

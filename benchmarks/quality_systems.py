"""Every system of a quality table, fitted and scored once; its scores are kept on disk.

made = scored(run / "scores" / "lambdamart.npz", data, lambda: baseline_system("lambdamart", data, run))
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reshelf.data.atomic import atomic
from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import TEACHER
from reshelf.evaluation.measure import Measurement, Truth, measure
from reshelf.evaluation.reranker_system import finetuned
from reshelf.evaluation.run import check_scores
from reshelf.evaluation.systems import SystemContext, baseline


@dataclass
class Made:
    """What a system gave."""

    scores: dict[str, list[np.ndarray]]
    """Split -> float64 [K] per list."""
    facts: dict[str, Any]
    """What its training chose."""
    seconds: float
    """Training and scoring."""
    _measured: dict[int, Measurement] = field(default_factory=dict, repr=False)

    def measure(self, truth: Truth, k: int) -> Measurement:
        """Of the test lists, which `truth` is of; once, for every row of Reshelf is compared with every other row."""
        if k not in self._measured:
            self._measured[k] = measure(self.scores["test"], truth, k)
        return self._measured[k]

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
                for split in splits(data)
            }
        return cls(scores, about["facts"], about["seconds"])


def from_gpu(folder: Path, name: str, data: RankingData) -> dict[str, Made]:
    """Rows that `python -m benchmarks.gpu` trained and scored: `reshelf` and `reshelf_other_history`.

    Raises:
        InputError: it scored other lists.
    """
    facts = json.loads((folder / f"finetune_{name}.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{name}.npz") as held:
        found = {key: dict(zip(held["list_ids"].tolist(), held[key], strict=True)) for key in held if key != "list_ids"}
    lists = data.lists["test"]
    if any(
        one.list_id not in found["reshelf"] or np.isfinite(found["reshelf"][one.list_id]).sum() != len(one.candidates)
        for one in lists
    ):
        raise InputError(f"{folder / name}.npz holds other test lists; prepare {name} for the GPU from this data set")
    made = {}
    for row, key in (("reshelf", "reshelf"), ("reshelf_other_history", "shuffled_history")):
        scores = [found[key][one.list_id][: len(one.candidates)].astype(np.float64) for one in lists]
        made[row] = Made({"test": scores}, facts, facts["training_s"])
    return made


def splits(data: RankingData) -> list[str]:
    """Those that are scored, where they are there."""
    return [split for split in ("valid", "test") if data.lists.get(split)]


def no_valid(data: RankingData) -> RankingData:
    """The data where validation lists need no scores; training lists stay, for some systems count in them."""
    return RankingData(data.items, {name: lists for name, lists in data.lists.items() if name != "valid"})


def scored(path: Path, data: RankingData, make: Callable[[], SystemContext]) -> Made:
    """A system's scores of the valid and test lists, read from `path` where they are there.

    Args:
        make: gives the system ready to score, whose models are freed afterwards.
    """
    if path.exists():
        return Made.read(path, data)
    print(f"{path.stem} …", flush=True)
    started = time.perf_counter()
    scores = {}
    with make() as system:
        for split in splits(data):
            values = system.scores(data, data.lists[split])
            scores[split] = [np.asarray(one, dtype=np.float64) for one in values]
            check_scores(path.stem, data.lists[split], scores[split])
    made = Made(scores, dict(getattr(system, "chosen", {})), time.perf_counter() - started)
    made.write(path)
    return made


class Teacher:
    """The teacher's scores as they stand in the lists."""

    name = TEACHER

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        return [np.asarray(one.features[TEACHER]) for one in lists]


def baseline_system(name: str, data: RankingData, images: Path, seed: int = 0) -> SystemContext:
    """A system other than the reranker, trained on the train lists where it learns."""
    if name == TEACHER:
        return nullcontext(Teacher())
    system = baseline(name, seed, images)
    if hasattr(system, "fit"):
        system.fit(data)
    return nullcontext(system)


def reranker_system(model: Path, data: RankingData) -> SystemContext:
    """A reranker folder, scored by the transformers engine."""
    return finetuned(model, data.items, "transformers")

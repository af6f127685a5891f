"""Ranking quality on one data set: import, teach, pretrain, finetune, and every other system on the same lists.

    make quality NAME=beauty_rerank            # or: python -m benchmarks.quality --name beauty_rerank

The recipe is `benchmarks/quality/NAME.yaml`. Everything is tuned on `valid` and measured on `test`. What is finished is
not made again: runs/quality/NAME holds the data, the base, the models and every system's scores. Writes
`benchmarks/results/quality_NAME.json`: system → metric → [mean, low, high], and `quality_NAME_details.json`: paired
differences, what trained systems settled on, seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.harness import RESULTS
from benchmarks.quality_recipe import Recipe
from benchmarks.quality_systems import SYSTEMS, Made, make
from benchmarks.quality_tables import differences, relevance_of, rmse, show, table
from reshelf.config import load_yaml, parse
from reshelf.data.importing import ImportConfig, import_folder
from reshelf.data.store import RankingData, atomic, load_dataset_folder
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import TEACHER
from reshelf.evaluation.teacher import TeachConfig, teach
from reshelf.finetune.base import make_base
from reshelf.finetune.run import finetune
from reshelf.modeling.checkpoint import SPEC_FILE

RUNS = Path("runs/quality")


@dataclass
class QualityConfig:
    """One table of ranking quality; `make quality NAME=…` calls this."""

    name: str
    """Recipe in benchmarks/quality."""
    root: Path = Path("../shared/data")
    """Folder with the real data sets."""
    systems: list[str] | None = None
    """Only these systems; none means all that the recipe compares."""


def main(config: QualityConfig) -> None:
    """Make what is missing, measure, print and write.

    Raises:
        InputError: there is no such recipe, or its data is not at `root`.
    """
    path = Path(__file__).parent / "quality" / f"{config.name}.yaml"
    if not path.exists():
        there = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise InputError(f"there is no recipe {config.name!r}; make quality takes NAME={', '.join(there)}")
    recipe, run, console = load_yaml(Recipe, path), RUNS / config.name, Console()
    prepare(recipe, run, config.root, console)
    models = train(recipe, run, console)
    data = load_dataset_folder(run / "data")
    names = [n for n in SYSTEMS if n in (config.systems or recipe.systems)]
    made = {name: scored(name, data, run, models, console) for name in names}
    for n, model in enumerate(models[1:], start=1):
        made[f"reshelf_seed{n}"] = scored(f"reshelf_seed{n}", data, run, [model], console)
    result = table(made, data.lists["test"], recipe.ks)
    if recipe.relevance:
        truth = {split: relevance_of(config.root, data.lists[split]) for split in ("valid", "test")}
        for name, one in made.items():
            result[name]["rmse"] = rmse(one, truth, data)
    details = {
        "command": f"make quality NAME={config.name}",
        "lists": {split: len(lists) for split, lists in data.lists.items()},
        "paired": differences(made, data.lists["test"]),
        "facts": {name: one.facts for name, one in made.items()},
        "seconds": {name: round(one.seconds, 1) for name, one in made.items()},
    }
    for name, content in ((f"quality_{config.name}", result), (f"quality_{config.name}_details", details)):
        with atomic(RESULTS / f"{name}.json") as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    show(result, details, console)


def prepare(recipe: Recipe, run: Path, root: Path, console: Console) -> None:
    """The data set folder with the teacher's scores, and the base."""
    data = run / "data"
    if not (data / "train.parquet").exists():
        console.rule(f"{run.name}: data")
        import_folder(ImportConfig(recipe.mapping, data, root, changes=recipe.changes))
    train = load_dataset_folder(data, ["train"]).lists["train"]
    if recipe.model.distil.feature == TEACHER and TEACHER not in train[0].features:
        console.rule(f"{run.name}: teacher")
        teach(TeachConfig(data), console)
    if not (recipe.base.out / "config.json").exists():
        console.rule(f"{run.name}: base")
        make_base(recipe.base)


def train(recipe: Recipe, run: Path, console: Console) -> list[Path]:
    """The finetuned models, one per seed, the first one's seed first."""
    models = []
    for n in range(recipe.seeds):
        out = recipe.model.out if n == 0 else run / f"model-seed{n}"
        if not (out / SPEC_FILE).exists():
            console.rule(f"{run.name}: finetune, seed {n}")
            finetune(replace(recipe.model, out=out, seed=n))
        models.append(out)
    return models


def scored(name: str, data: RankingData, run: Path, models: Sequence[Path], console: Console) -> Made:
    """A system's scores of the valid and test lists, from the run folder where they are there."""
    path = run / "scores" / f"{name}.npz"
    if path.exists():
        return Made.read(path, data)
    console.print(f"{run.name}: {name}", highlight=False)
    started = time.perf_counter()
    system, facts = make("reshelf" if name.startswith("reshelf") else name, data, run, models[0])
    scores = {split: cut(system.scores(data, data.lists[split])) for split in ("valid", "test")}
    made = Made(scores, facts(), time.perf_counter() - started)
    made.write(path)
    return made


def cut(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Checked: finite float64."""
    made = [np.asarray(values, dtype=np.float64) for values in scores]
    assert all(np.isfinite(values).all() for values in made), "a score is not a number"
    return made


if __name__ == "__main__":
    try:
        main(parse(QualityConfig, sys.argv[1:], "make quality NAME=", "Ranking quality on one data set."))
    except InputError as error:
        print(f"make quality: {error}", file=sys.stderr)
        sys.exit(2)

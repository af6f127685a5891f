"""Ranking quality on one data set: import, teach, pretrain, finetune, and every other system on the same lists.

    make quality NAME=beauty_rerank            # or: python -m benchmarks.quality --name beauty_rerank
    make quality NAME=beauty_rerank DATA=/other/shops BASE=/models/gemma-3-270m
    make quality NAME=bestbuy GPU=results              # the row `reshelf` as `python -m benchmarks.gpu` found it

The recipe is `benchmarks/quality/NAME.yaml`. Everything is tuned on `valid` and measured on `test`. What is finished is
not made again: runs/quality/NAME holds the data, the small base, the models and every system's scores. The rows
`reshelf` and `zero_shot` are those of a real pretrained model, which BASE names; without it they are left out. Writes
`benchmarks/results/quality_NAME.json`: system → metric → [mean, low, high], and `quality_NAME_details.json`: paired
differences of each of Reshelf's rows to every other one, what trained systems chose, seconds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import quality_marketplace
from benchmarks.quality_recipe import REAL, SMALL, MarketplaceRecipe, Recipe
from benchmarks.quality_slices import other_histories, paired_by_slice
from benchmarks.quality_systems import Made, baseline_system, from_gpu, no_valid, reranker_system, scored
from benchmarks.quality_tables import differences, relevance_of, rmse, show, table, write
from reshelf.config import load_yaml, parse
from reshelf.data.atomic import atomic
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import TEACHER
from reshelf.evaluation.reranker_system import untrained_base
from reshelf.evaluation.teacher import TeachConfig, teach, with_teacher
from reshelf.finetune.pretraining.pretrain import pretrain
from reshelf.finetune.run import finetune
from reshelf.modeling.spec import SPEC_FILE

RUNS = Path("runs/quality")
RECIPES = Path(__file__).parent / "quality"
ROOT_FILE = "root.txt"


@dataclass
class QualityConfig:
    """One table of ranking quality; `make quality NAME=…` calls this."""

    name: str
    """Recipe in benchmarks/quality."""
    root: Path = Path("../shared/data")
    """Folder with the real data sets; another one must have the same file names in it."""
    base: str | None = None
    """Folder or Hub id of the pretrained model of the rows `reshelf` and `zero_shot`; none leaves them out."""
    gpu: Path | None = None
    """Folder that `python -m benchmarks.gpu` wrote: the row `reshelf` was trained and scored there."""


def main(config: QualityConfig) -> None:
    """Make what is missing, measure, print and write.

    Raises:
        InputError: there is no such recipe, its data is not at `root`, or the run folder holds that of another root.
    """
    path = RECIPES / f"{config.name}.yaml"
    if not path.exists():
        there = sorted(p.stem for p in RECIPES.glob("*.yaml"))
        raise InputError(f"there is no recipe {config.name!r}; make quality takes NAME={', '.join(there)}")
    run, console = RUNS / config.name, Console()
    if config.name == "marketplace":
        quality_marketplace.compare(load_yaml(MarketplaceRecipe, path), run, console)
    else:
        compare(load_yaml(Recipe, path), run, config.root, console, config.base, config.gpu)


def compare(
    recipe: Recipe, run: Path, root: Path, console: Console, base: str | None = None, gpu: Path | None = None
) -> None:
    """One real data set."""
    prepare(recipe, run, root, console)
    models = train(recipe, run, base, console)
    data = load_dataset_folder(run / "data")
    shown = data if recipe.relevance else no_valid(data)
    made = {} if gpu is None else from_gpu(gpu, run.name, data)
    for name, model in models.items():
        made[name] = scored(run / "scores" / f"{name}.npz", shown, partial(reranker_system, model, data))
    if REAL in models:
        untrained = partial(untrained_base, models[REAL], data.items)
        made["zero_shot"] = scored(run / "scores" / "zero_shot.npz", shown, untrained)
    shuffled = RankingData(data.items, {"test": other_histories(data.lists["test"])})
    for name, model in models.items() if recipe.slices else ():
        row = f"{name}_other_history"
        made[row] = scored(run / "scores" / f"{row}.npz", shuffled, partial(reranker_system, model, shuffled))
    for name in recipe.systems:
        make = partial(baseline_system, name, data, run / "data")
        made[name] = scored(run / "scores" / f"{name}.npz", shown, make)
    lists = data.lists["test"]
    result = table(made, lists, recipe.ks, recipe.map_at)
    if recipe.relevance:
        truth = {split: relevance_of(root, data.lists[split]) for split in ("valid", "test")}
        for name, one in made.items():
            result[name]["rmse"] = rmse(one, truth, data)
    details: dict[str, Any] = {
        "command": f"make quality NAME={run.name}",
        "lists": {split: len(lists) for split, lists in data.lists.items()},
        "paired": {name: differences(made, lists, name) for name in (REAL, *recipe.rerankers) if name in made},
        "facts": {name: one.facts for name, one in made.items()},
        "seconds": {name: round(one.seconds, 1) for name, one in made.items()},
    }
    if recipe.slices:
        details["slices"] = {name: paired_by_slice(made, lists, name) for name in details["paired"]}
    if recipe.cold:
        shoppers = cold(recipe, run, root, models, data.lists["valid"], console)
        unknown = load_dataset_folder(run / "cold").lists["test"]
        result |= {f"cold/{name}": row for name, row in table(shoppers, unknown, recipe.ks).items()}
        details["cold"] = {"paired": {name: differences(shoppers, unknown, name) for name in models}}
    write(run.name, result, details)
    show(result, details, console)


def prepare(recipe: Recipe, run: Path, root: Path, console: Console) -> None:
    """The data set folder with the teacher's scores, and the base."""
    data, before = run / "data", run / ROOT_FILE
    if before.exists() and before.read_text(encoding="utf-8") != str(root.resolve()):
        raise InputError(f"{run} holds a run over {before.read_text(encoding='utf-8')}; move or delete it first")
    if not (data / "train.parquet").exists():
        console.rule(f"{run.name}: data")
        import_folder(ImportConfig(recipe.mapping, data, root, changes=recipe.changes))
        with atomic(before) as partial_file:
            partial_file.write_text(str(root.resolve()), encoding="utf-8")
    train = load_dataset_folder(data, ["train"]).lists["train"]
    if TEACHER in recipe.systems and TEACHER not in train[0].features:
        console.rule(f"{run.name}: teacher")
        teach(TeachConfig(data), console)
    if not (recipe.base.out / "config.json").exists():
        console.rule(f"{run.name}: base")
        pretrain(recipe.base)


def train(recipe: Recipe, run: Path, base: str | None, console: Console) -> dict[str, Path]:
    """Row -> the finetuned model; `reshelf_small` once per seed."""
    models = {}
    for name, config in recipe.rerankers.items():
        if name == REAL:
            if base is None:
                console.print(f"{name}: left out, for no pretrained model was given (BASE=…)")
                continue
            config = replace(config, model=replace(config.model, base=base))
        for seed in range(recipe.seeds if name == SMALL else 1):
            row, out = (name, config.out) if seed == 0 else (f"{name}_seed{seed}", run / f"{name}_seed{seed}")
            if not (out / SPEC_FILE).exists():
                console.rule(f"{run.name}: finetune {row}")
                finetune(replace(config, out=out, seed=seed))
            models[row] = out
    return models


def cold(
    recipe: Recipe, run: Path, root: Path, models: dict[str, Path], valid: list[RankingList], console: Console
) -> dict[str, Made]:
    """The same lists, imported as if no shopper had done anything yet: the first stage does not know them either."""
    if not (run / "cold" / "test.parquet").exists():
        console.rule(f"{run.name}: shoppers without history")
        changes = {**recipe.changes, "max_history": 0}
        import_folder(ImportConfig(recipe.mapping, run / "cold", root, changes=changes, quiet=True))
    data = no_valid(load_dataset_folder(run / "cold"))
    made = {}
    for name, model in models.items():
        config = recipe.rerankers.get(name)
        taught = config is not None and TEACHER in config.prompt.features
        shown = RankingData(data.items, {"test": _untaught(data.lists["test"], valid)}) if taught else data
        made[name] = scored(run / "scores" / f"cold_{name}.npz", shown, partial(reranker_system, model, shown))
    first = partial(baseline_system, "first_stage", data, run)
    return made | {"first_stage": scored(run / "scores" / "cold_first_stage.npz", data, first)}


def _untaught(lists: list[RankingList], taught: list[RankingList]) -> list[RankingList]:
    """Lists of shoppers whom the teacher did not see either: every candidate is given its middle score, as the service
    does with a number that a request does not carry."""
    middle = float(np.median(np.concatenate([one.features[TEACHER] for one in taught])))
    return [with_teacher(one, [middle] * len(one.candidates)) for one in lists]


if __name__ == "__main__":
    try:
        main(parse(QualityConfig, sys.argv[1:], "make quality NAME=", "Ranking quality on one data set."))
    except InputError as error:
        print(f"make quality: {error}", file=sys.stderr)
        sys.exit(2)

"""`reshelf teach`: scores of a strong but slow-to-serve ranker, written into the lists for a reranker to learn from.

    reshelf teach --data runs/shop/data
    reshelf finetune --config finetune/shop.yaml --distil.feature teacher

The teacher is LambdaMART over the lists' numbers and over what a table can say of their texts
(`evaluation.text_numbers`). A train list gets the scores of a teacher that never saw its shopper: folds by shopper, or
by query where lists are by nobody in particular. Valid and test lists get those of the teacher of all train lists.
Training reads them; a reranker with `teacher` among its prompt's features also reads them when it ranks.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reshelf.data.atomic import atomic_folder
from reshelf.data.dataset_folder import LIST_SCHEMA, SPLITS, RankingData, load_dataset_folder, write_records
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.lambdamart import Table, fit_trees, predict
from reshelf.evaluation.baselines.numbers import TEACHER, Numbers
from reshelf.evaluation.text_numbers import TextNumbers
from reshelf.ranges import SEED, Range, check_numbers

_MODELS = 3


@dataclass
class TeachConfig:
    """Write a teacher's scores into the lists of a data set."""

    data: Path
    """Data set folder with train.parquet and valid.parquet; its lists get one more feature, `teacher`."""
    folds: int = 3
    """Teachers for the train lists, each blind to its share of the shoppers."""
    seed: int = 0
    """Seed of the trees."""

    def __post_init__(self) -> None:
        check_numbers(self, {"folds": Range(2), "seed": SEED})


def teach(config: TeachConfig, console: Console | None = None) -> None:
    """Train the teachers and rewrite the data set folder.

    Raises:
        InputError: the folder cannot be read or written, another call works there, or there are too few lists.
    """
    console = console or Console()
    if not config.data.is_dir():
        raise InputError(f"{config.data} is not there; make the data set with `reshelf data`")
    with atomic_folder(config.data, "`reshelf teach`") as folder:  # a killed call leaves all splits as they were
        _teach(config, folder, console)


def _teach(config: TeachConfig, folder: Path, console: Console) -> None:
    """Write the data set into another folder, its lists with the teacher's scores."""
    there = [split for split in SPLITS if (config.data / f"{split}.parquet").exists()]
    data = load_dataset_folder(config.data, there)
    for split in ("train", "valid"):
        if not data.lists.get(split):
            raise InputError(f"{config.data / f'{split}.parquet'} has no lists; a teacher needs train and valid")
    scores = teacher_scores(data, config.folds, config.seed, console)
    for split, lists in data.lists.items():
        data.lists[split] = [with_teacher(one, values) for one, values in zip(lists, scores[split], strict=True)]
    shutil.copytree(config.data, folder, symlinks=True, copy_function=_link, dirs_exist_ok=True)
    for split, lists in data.lists.items():
        write_records(folder / f"{split}.parquet", lists, LIST_SCHEMA)
    console.print(f"{config.data}: the feature {TEACHER!r} is in {sum(map(len, scores.values())):,} lists")


def _link(source: str, target: str) -> None:
    """The same file under another name, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def teacher_scores(data: RankingData, folds: int, seed: int, console: Console) -> dict[str, list[np.ndarray]]:
    """Scores for every list of every split, float64 [K] each."""
    train, valid = data.lists["train"], data.lists["valid"]
    numbers = Numbers.of(train, data.items)
    texts = TextNumbers(data.items, train)
    tables = {
        one.list_id: np.concatenate([numbers.table(one), texts.table(one, own=split == "train")], axis=1)
        for split, lists in data.lists.items()
        for one in lists
    }

    def table(one: RankingList) -> np.ndarray:
        return tables[one.list_id]

    seeds = [seed + n for n in range(_MODELS)]
    fold_of = np.array([fold(one, folds) for one in train])
    if len(set(fold_of.tolist())) < folds:
        raise InputError(f"{len(train)} train lists cannot be divided by shopper into {folds} folds; give fewer folds")
    model, chosen = fit_trees(table, train, valid, seed)
    console.print(f"teacher of all {len(train):,} train lists: {chosen}", highlight=False)
    several = [model, *(fit_trees(table, train, valid, s, chosen)[0] for s in seeds[1:])]
    result = {split: _mean(several, table, lists) for split, lists in data.lists.items() if split != "train" and lists}
    own: list[np.ndarray] = [np.zeros(0)] * len(train)
    for n in range(folds):
        seen = [one for one, f in zip(train, fold_of, strict=True) if f != n]
        blind = [fit_trees(table, seen, valid, s, chosen)[0] for s in seeds]
        rows = np.flatnonzero(fold_of == n)
        for row, values in zip(rows, _mean(blind, table, [train[r] for r in rows]), strict=True):
            own[row] = values
    return {"train": own, **result}


def _mean(models: Sequence[Any], table: Table, lists: Sequence[RankingList]) -> list[np.ndarray]:
    """Mean scores of several models: less of the chance in each."""
    every = [predict(model, table, lists) for model in models]
    return [np.mean(values, axis=0) for values in zip(*every, strict=True)]


def fold(one: RankingList, folds: int) -> int:
    """The fold of a list's shopper; of its query where it has no history and so no particular shopper."""
    key = one.user_id if one.history else f"{one.user_id} {one.query}"
    return zlib.crc32(key.encode()) % folds


def with_teacher(one: RankingList, scores: Sequence[float] | np.ndarray) -> RankingList:
    return one.model_copy(update={"features": {**one.features, TEACHER: tuple(float(s) for s in scores)}})

"""`reshelf evaluate`: score the same lists with every system, print a table, write report.json, report.md, report.png.

reshelf evaluate --data runs/demo/data --model runs/demo/model --out runs/demo
evaluate(EvaluateConfig(data=Path("runs/demo/data"), model=Path("runs/demo/model"), out=Path("runs/demo")))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reshelf.data.schema import Item, RankingList
from reshelf.data.store import SPLITS, RankingData, check_writable, load_dataset_folder
from reshelf.errors import InputError
from reshelf.evaluation.baselines.best_possible import BestPossible
from reshelf.evaluation.baselines.first_stage import FirstStage
from reshelf.evaluation.baselines.popularity import FEATURE, Popularity, has_feature
from reshelf.evaluation.baselines.random_order import RandomOrder
from reshelf.evaluation.config import EvaluateConfig, SystemName

MODEL_SYSTEMS = ("base", "finetuned")


class System(Protocol):
    """Anything that can order lists."""

    name: str

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """One float [K] per list, higher is better; equal scores keep first-stage order."""
        ...


Advance = Callable[[int], None]
SystemContext = AbstractContextManager[System]


def evaluate(config: EvaluateConfig, console: Console | None = None) -> dict[str, Any]:
    """Score, measure, print and write; returns what report.json holds.

    Raises:
        InputError: the data, the model folder or the output folder cannot be used, or a system that was asked for
            cannot be had from them. Nothing is scored or written then.
    """
    # Here and not above, so that `reshelf evaluate --help` waits for neither torch nor matplotlib.
    from reshelf.evaluation.measure import Truth, measure, summarise
    from reshelf.evaluation.report import table, write_report

    console = console or Console()
    check(config)
    data = load_dataset_folder(config.data, [config.split])
    lists = sample(data.lists[config.split], config.limit, config.seed)
    if not lists:
        raise InputError(f"{config.data / config.split}.parquet has no lists; evaluate another split")
    truth = Truth.of(lists)
    names, left_out = choose(config, lists)
    if "popularity" in names and not has_feature(lists):
        data.lists |= load_dataset_folder(config.data, ["train"]).lists
    started = time.perf_counter()
    scored, seconds = score_all(config, names, data, lists, console)
    measured = {name: measure(scores, truth, config.k) for name, scores in scored.items()}
    report = {
        "seconds": time.perf_counter() - started,
        **summarise(measured, truth, config.k, config.resamples, config.seed),
        "n_lists": len(lists),
        "n_candidates": sum(len(one.candidates) for one in lists),
        "data": str(config.data),
        "model": str(config.model) if config.model else None,
        "split": config.split,
        "k": config.k,
        "gains": "labels" if truth.utility is None else "utility",
        "relevant_from": truth.relevant_from,
        "resamples": config.resamples,
        "seed": config.seed,
        "system_seconds": seconds,
        "left_out": left_out,
    }
    write_report(config.out, report)
    console.print(table(report))
    for name, why in left_out.items():
        console.print(f"[dim]{name} was left out: {why}[/dim]")
    console.print(f"Written to {config.out}: report.json, report.md, report.png", highlight=False, soft_wrap=True)
    return report


def check(config: EvaluateConfig) -> None:
    """Everything that can be wrong before anything is read.

    Raises:
        InputError: a number is out of range, the model folder is not one, or the output folder cannot be written to.
    """
    for name, least in (("k", 1), ("resamples", 2), ("limit", 1)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; give at least {least}")
    if config.split not in SPLITS:
        raise InputError(f"split is {config.split!r}; give one of {', '.join(SPLITS)}")
    unknown = [name for name in config.systems if name not in get_args(SystemName)]
    if unknown:
        raise InputError(f"systems: {unknown[0]!r} is not known; give some of {', '.join(get_args(SystemName))}")
    wants_model = [name for name in config.systems if name in MODEL_SYSTEMS]
    if wants_model and config.model is None:
        raise InputError(f"systems: {wants_model[0]} needs a reranker folder; give it as model")
    if config.model is not None:
        from reshelf.evaluation.reranker_system import check_reranker

        check_reranker(config.model)
    check_writable(config.out)


def sample(lists: list[RankingList], limit: int | None, seed: int) -> list[RankingList]:
    """All lists, or `limit` of them drawn without replacement, in their old order."""
    if limit is None or limit >= len(lists):
        return lists
    chosen = np.sort(np.random.default_rng(seed).choice(len(lists), size=limit, replace=False))
    return [lists[i] for i in chosen]


def choose(config: EvaluateConfig, lists: Sequence[RankingList]) -> tuple[list[SystemName], dict[str, str]]:
    """The systems to run in table order, and why others are left out.

    Raises:
        InputError: a system was asked for by name and cannot be had.
    """
    left_out: dict[str, str] = {}
    if any(one.utility is None for one in lists):
        left_out["best_possible"] = "the lists have no true utility"
    if not has_feature(lists) and not (config.data / "train.parquet").exists():
        left_out["popularity"] = f"there is no train.parquet to count in and no feature {FEATURE!r} in every list"
    if config.model is None:
        left_out |= dict.fromkeys(MODEL_SYSTEMS, "no model was given")
    for name in config.systems:
        if name in left_out:
            raise InputError(f"systems: {name} is not possible here: {left_out[name]}")
    everything: tuple[SystemName, ...] = get_args(SystemName)
    if config.systems:
        return [name for name in everything if name in config.systems], {}
    return [name for name in everything if name not in left_out], left_out


def score_all(
    config: EvaluateConfig,
    names: Sequence[SystemName],
    data: RankingData,
    lists: Sequence[RankingList],
    console: Console,
) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
    """Scores and seconds by system name, with a progress bar over the lists of every system."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    scored: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, float] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        for name in names:
            task = progress.add_task(f"Scoring {name}", total=len(lists))
            started = time.perf_counter()
            with make_system(name, config, data.items, partial(progress.advance, task)) as system:
                scored[name] = system.scores(data, lists)
            seconds[name] = time.perf_counter() - started
            check_scores(name, lists, scored[name])
            progress.update(task, completed=len(lists))
    return scored, seconds


def make_system(name: SystemName, config: EvaluateConfig, items: Mapping[str, Item], advance: Advance) -> SystemContext:
    """A context manager that gives the system of that name; models are loaded on entering it and freed on leaving."""
    match name:
        case "random":
            return nullcontext(RandomOrder(seed=config.seed))
        case "first_stage":
            return nullcontext(FirstStage())
        case "bm25":
            from reshelf.evaluation.baselines.bm25 import Bm25

            return nullcontext(Bm25())
        case "popularity":
            return nullcontext(Popularity())
        case "best_possible":
            return nullcontext(BestPossible())
    from reshelf.evaluation.reranker_system import finetuned, untrained_base

    assert config.model is not None  # `check` and `choose` see to it
    if name == "base":
        return untrained_base(config.model, items, advance)
    return finetuned(config.model, items, config.engine, advance)


def check_scores(name: str, lists: Sequence[RankingList], scores: Sequence[np.ndarray]) -> None:
    """A system must give one finite number per candidate.

    Raises:
        RuntimeError: it did not; names the list.
    """
    if len(scores) != len(lists):
        raise RuntimeError(f"{name} scored {len(scores)} lists of {len(lists)}")
    for one, values in zip(lists, scores):
        if len(values) != len(one.candidates):
            raise RuntimeError(
                f"{name} gave {len(values)} scores for {len(one.candidates)} candidates of list {one.list_id!r}"
            )
        if not np.isfinite(values).all():
            raise RuntimeError(f"{name} gave a score that is NaN or infinite in list {one.list_id!r}")

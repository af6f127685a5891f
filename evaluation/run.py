"""`reshelf evaluate`: order the same lists with every system; a table, and report.html for people who act on it.

    reshelf evaluate --data runs/demo/data --model runs/demo/model --out runs/demo
    reshelf evaluate --data runs/shop/data --model runs/shop/model --out runs/shop --systems all

evaluate(EvaluateConfig(data=Path("runs/demo/data"), model=Path("runs/demo/model"), out=Path("runs/demo")))
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from reshelf.data.atomic import check_writable
from reshelf.data.dataset_folder import SPLITS, RankingData, load_dataset_folder
from reshelf.data.language import catalogue_language
from reshelf.data.propensity.file import read_propensities
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import every_list_has
from reshelf.evaluation.baselines.popularity import FEATURE
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.systems import LEARNED, MODEL_SYSTEMS, NAMES, Advance, System, choose, make_system
from reshelf.progress import MinuteProgress
from reshelf.translation import translations

_ROW = re.compile(r"\w[\w .:,=+()-]*")
"""Of other letters, tables and plots take some for their own."""


def evaluate(config: EvaluateConfig, console: Console | None = None) -> dict[str, Any]:
    """Score, measure, print and write; returns what report.json holds.

    Raises:
        InputError: the data, the model folder or the output folder cannot be used, or a system that was asked for
            cannot be had from them. Nothing is scored or written then.
    """
    # Here and not above, so that `reshelf evaluate --help` waits for neither torch nor matplotlib.
    from reshelf.evaluation.analysis import analyse
    from reshelf.evaluation.counterfactual import check_shown
    from reshelf.evaluation.measure import Truth, measure, summarise
    from reshelf.evaluation.report import table, write_report
    from reshelf.evaluation.report_markdown import counterfactual_texts

    console = console or Console()
    check(config)
    data = load_dataset_folder(config.data, [config.split])
    lists = sample(data.lists[config.split], config.limit, config.seed)
    if not lists:
        raise InputError(f"{config.data / config.split}.parquet has no lists; evaluate another split")
    truth = Truth.of(lists)
    if config.propensities is not None:
        check_shown(lists)
    language = _language(config, data)
    names, left_out = choose(config, lists, language)
    if needed := splits_needed(config, names, lists):
        data.lists |= load_dataset_folder(config.data, needed).lists
    started = time.perf_counter()
    scored, seconds, chosen = score_all(config, names, data, lists, console)
    measured = {name: measure(scores, truth, config.k) for name, scores in scored.items()}
    report = {
        "seconds": time.perf_counter() - started,
        **summarise(measured, truth, config.k, config.resamples, config.seed),
        **analyse(config, scored, measured, truth, lists, data, language),
        "language": language,
        "n_lists": len(lists),
        "n_candidates": sum(len(one.candidates) for one in lists),
        "data": str(config.data),
        "model": str(config.model) if config.model else None,
        "others": {name: str(folder) for name, folder in config.others.items()},
        "split": config.split,
        "k": config.k,
        "gains": "labels" if truth.utility is None else "utility",
        "relevant_from": truth.relevant_from,
        "resamples": config.resamples,
        "seed": config.seed,
        "system_seconds": seconds,
        "chosen_settings": chosen,
        "left_out": left_out,
    }
    write_report(config.out, report)
    console.print(table(report))
    for name, row in (report["counterfactual"] or {}).items():
        text = translations(language).gettext("{system}: SNIPS DCG@{k} {estimate}, {gain} against first-stage order.")
        estimate, gain = counterfactual_texts(row)
        console.print(text.format(system=name, k=config.k, estimate=estimate, gain=gain), highlight=False)
    for name, why in left_out.items():
        text = translations(language).gettext("{system} was left out: {reason}.")
        console.print(f"[dim]{text.format(system=name, reason=why)}[/dim]")
    console.print(f"Written to {config.out}: report.html, report.md, report.json", highlight=False, soft_wrap=True)
    return report


def _language(config: EvaluateConfig, data: RankingData) -> str:
    """The model's; without one, the catalogue's."""
    if config.model is None:
        return catalogue_language(item.title for item in data.items.values())
    from reshelf.modeling.spec import read_spec

    prompt = read_spec(config.model, config.trust_remote_code).prompt
    return prompt.in_language_of(data.items.values()).language


def check(config: EvaluateConfig) -> None:
    """Everything that can be wrong before anything is read.

    Raises:
        InputError: a model folder is not one, propensities cannot be read, or the output folder cannot be written to.
    """
    if config.split not in SPLITS:
        raise InputError(f"split is {config.split!r}; give one of {', '.join(SPLITS)}")
    requested = [] if config.systems == "all" else config.systems
    unknown = [name for name in requested if name not in NAMES]
    if unknown:
        raise InputError(f"systems: {unknown[0]!r} is not known; give all or some of {', '.join(NAMES)}")
    wants_model = [name for name in requested if name in MODEL_SYSTEMS]
    if wants_model and config.model is None:
        raise InputError(f"systems: {wants_model[0]} needs a reranker folder; give it as model")
    taken = [name for name in config.others if name in NAMES]
    if taken:
        raise InputError(f"others: {taken[0]} is the name of another row; choose another")
    odd = [name for name in config.others if not _ROW.fullmatch(name)]
    if odd:
        raise InputError(f"others: {odd[0]!r} cannot be the name of a row; give letters, digits, blanks and _-+.:,=()")
    folders = [*([config.model] if config.model else []), *config.others.values()]
    if folders:
        from reshelf.modeling.spec import read_reranker

        for folder in folders:
            read_reranker(folder, config.trust_remote_code)
    if config.propensities is not None:
        read_propensities(config.propensities)
    check_writable(config.out)


def splits_needed(config: EvaluateConfig, names: Sequence[str], lists: Sequence[RankingList]) -> list[str]:
    """Splits to read besides the one that is evaluated: to learn from, and to count popularity in."""
    needed = ["train", "valid"] if any(name in LEARNED for name in names) else []
    if not needed and not every_list_has(FEATURE, lists) and (config.data / "train.parquet").exists():
        needed = ["train"]
    return [split for split in needed if split != config.split]


def sample(lists: list[RankingList], limit: int | None, seed: int) -> list[RankingList]:
    """All lists, or `limit` of them drawn without replacement, in their old order."""
    if limit is None or limit >= len(lists):
        return lists
    chosen = np.sort(np.random.default_rng(seed).choice(len(lists), size=limit, replace=False))
    return [lists[i] for i in chosen]


def score_all(
    config: EvaluateConfig, names: Sequence[str], data: RankingData, lists: Sequence[RankingList], console: Console
) -> tuple[dict[str, list[np.ndarray]], dict[str, float], dict[str, Any]]:
    """Scores, seconds, and what training chose, by system, with a progress bar over the lists of every system."""
    scored: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, float] = {}
    chosen: dict[str, Any] = {}
    with MinuteProgress(console=console, transient=True) as progress:
        for name in [*names, *config.others]:
            verb = "Training and scoring" if name in LEARNED else "Scoring"
            task = progress.add_task(f"{verb} {name}", total=len(lists))
            started = time.perf_counter()
            with _made(name, config, data, partial(progress.advance, task)) as system:
                scored[name] = system.scores(data, lists)
                chosen |= {name: system.chosen} if hasattr(system, "chosen") else {}
            seconds[name] = time.perf_counter() - started
            check_scores(name, lists, scored[name])
            progress.update(task, completed=len(lists))
    return scored, seconds, chosen


def _made(name: str, config: EvaluateConfig, data: RankingData, advance: Advance) -> AbstractContextManager[System]:
    if name not in config.others:
        return make_system(name, config, data, advance)  # type: ignore[arg-type]
    from reshelf.evaluation.reranker_system import finetuned

    return finetuned(config.others[name], data.items, config.engine, advance, config.trust_remote_code)


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

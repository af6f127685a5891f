"""`reshelf tune`: search for the settings of a finetuning run, with optuna.

    reshelf tune --run finetune/beauty_search.yaml --out runs/tune --trials 20
    reshelf finetune --config runs/tune/best.yaml

Every trial is a whole `reshelf finetune` on the same data, in OUT/trial-0, OUT/trial-1, …, judged by its own validation
metric. Hopeless ones are ended early. The study is OUT/study.db: a search that was cut short goes on where it was, and
a larger `--trials` makes it longer.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from reshelf.config import config_text, load_yaml
from reshelf.data.atomic import atomic, locked_folder, not_if_refused
from reshelf.errors import DivergedError, InputError, first_line
from reshelf.finetune.config import FinetuneConfig
from reshelf.ranges import AT_LEAST_1, SEED, check_numbers

Hyperparameter = Literal[
    "learning_rate", "rank", "lora_dropout", "weight_decay", "lists_per_step", "loss", "distil_weight"
]
STUDY, BEST = "study.db", "best.yaml"
_BEGUN_WITH = "begun"
"""Attribute of a study: the fingerprint of its run."""
_FOLDER_OF = "folder"
"""Attribute of a trial that goes on with one that was cut short: that one's folder."""


@dataclass
class TuneConfig:
    """Search for the settings of a finetuning run."""

    run: Path
    """Config of `reshelf finetune`; what is not searched for stays as it says."""
    out: Path
    """Folder for the study, its trials and best.yaml."""
    trials: int = 20
    """Trials in all, those of an earlier call counted."""
    hyperparameters: list[Hyperparameter] = field(default_factory=lambda: ["learning_rate", "rank", "lora_dropout"])
    """What to search: learning_rate (a tenth to ten times the run's), rank (8 to 64, alpha twice that), lora_dropout,
    weight_decay, lists_per_step (half to twice), loss (any), distil_weight (where the run has a teacher)."""
    seed: int = 0
    """Seed of the search; the runs keep their own."""

    def __post_init__(self) -> None:
        check_numbers(self, {"trials": AT_LEAST_1, "seed": SEED})


def tune(config: TuneConfig, console: Console | None = None) -> None:
    """Search, print the trials, and write `best.yaml`.

    Raises:
        InputError: the run's config or its data cannot be used, there is nothing to search, the folder holds another
            search, or optuna is missing.
        DivergedError: every trial diverged.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("`reshelf tune` needs optuna; install it with `pip install reshelf[tune]`") from error
    console = console or Console()
    run = load_yaml(FinetuneConfig, config.run)
    check(config, run)
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # a trial that fails is said once, by us
    with locked_folder(config.out, "search"), not_if_refused(config.out / STUDY):
        _search(_study(config, run), config, run, console)


def _study(config: TuneConfig, run: FinetuneConfig) -> Any:
    """The study in the folder, or a new one, which remembers what it is of.

    Raises:
        InputError: it cannot be read, or is of other data, another base or other settings.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    from reshelf.finetune.resume import changes, fingerprint

    other = "finish it as it was begun, delete the folder, or choose another --out"
    path = config.out / STUDY
    there = any(config.out.glob("trial-*"))
    if there and not path.exists():
        raise InputError(f"{config.out} holds trials but no {STUDY}; delete the folder, or choose another --out")
    wanted: dict[str, Any] = {
        "storage": f"sqlite:///{path}",
        "study_name": "reshelf",
        "direction": "maximize",
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=run.eval_every),
        "load_if_exists": True,
    }
    try:
        study = optuna.create_study(**wanted)
        now, was = fingerprint(run, processes=1), study.user_attrs.get(_BEGUN_WITH, {})
        if study.trials and was != now:
            if there or any(trial.state != optuna.trial.TrialState.FAIL for trial in study.trials):
                what = changes(was, now) if was else f"{STUDY} does not say what it was begun with"
                raise InputError(f"{path} is another search: {what}; {other}")
            optuna.delete_study(study_name=wanted["study_name"], storage=wanted["storage"])  # nothing came of it
            study = optuna.create_study(**wanted)
        study.set_user_attr(_BEGUN_WITH, now)
    except (SQLAlchemyError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}; delete it, or choose another --out") from error
    return study


def _search(study: Any, config: TuneConfig, run: FinetuneConfig, console: Console) -> None:
    """Make the trials that are missing, and write down the best of all."""
    import optuna

    _queue_cut_short(study)
    done = sum(trial.state.is_finished() and trial.state != optuna.trial.TrialState.FAIL for trial in study.trials)
    if not done and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        study.enqueue_trial(as_it_is(run, config.hyperparameters))
    for _ in range(done, config.trials):
        study.sampler = optuna.samplers.TPESampler(seed=trial_seed(config.seed, len(study.trials)))
        study.optimize(lambda trial: _try(trial, config, run, console), n_trials=1)
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        raise DivergedError(
            f"{config.out}: none of {len(study.trials)} trials came to an end, so there is no best one; lower "
            f"optimizer.learning_rate in {config.run}, and choose another --out"
        )
    best = turned(run, study.best_params)
    best.out = config.out / "best"
    with atomic(config.out / BEST) as partial:
        found = f"{run.measured_by} {study.best_value:.4f} on valid"
        header = f"# {_folder(study.best_trial)}: {found}.\n"
        partial.write_text(header + config_text(best), encoding="utf-8")
    console.print(table(study, run))
    console.print(f"reshelf finetune --config {config.out / BEST}", highlight=False)


def check(config: TuneConfig, run: FinetuneConfig) -> None:
    """What can be wrong before the first trial."""
    if not config.hyperparameters:
        raise InputError("hyperparameters is empty; give something to search, e.g. [learning_rate, rank]")
    if "distil_weight" in config.hyperparameters and not run.distil.feature:
        raise InputError(f"hyperparameters: distil_weight needs a teacher; set distil.feature in {config.run}")


def trial_seed(seed: int, number: int) -> int:
    """Each trial draws from a stream of its own, so that a search that goes on draws what a longer one would have."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _try(trial: Any, config: TuneConfig, run: FinetuneConfig, console: Console) -> float:
    """One trial's best validation metric."""
    from reshelf.finetune.run import finetune

    chosen = turned(run, suggested(trial, config.hyperparameters, run))
    chosen.out = config.out / _folder(trial)
    chosen.overwrite = True  # where a search was killed between the end of a run and the note of its metric
    values = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
    console.rule(f"{_folder(trial).replace('-', ' ')}: {values}")

    def watch(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            import optuna

            raise optuna.TrialPruned

    try:
        return finetune(chosen, watch)
    except DivergedError as error:  # this setting is no good; others may be
        import optuna

        console.print(str(error), markup=False, highlight=False)
        raise optuna.TrialPruned from error


def suggested(trial: Any, hyperparameters: list[Hyperparameter], run: FinetuneConfig) -> dict[str, Any]:
    """What a trial turns each hyperparameter to."""
    rate, lists = run.optimizer.learning_rate, run.optimizer.lists_per_step
    suggest = {
        "learning_rate": lambda: trial.suggest_float("learning_rate", rate / 10, rate * 10, log=True),
        "rank": lambda: trial.suggest_categorical("rank", sorted({8, 16, 32, 64, run.lora.rank})),
        "lora_dropout": lambda: trial.suggest_float("lora_dropout", 0.0, 0.3),
        "weight_decay": lambda: trial.suggest_float("weight_decay", 1e-4, 0.3, log=True),
        "lists_per_step": lambda: trial.suggest_categorical("lists_per_step", [max(1, lists // 2), lists, 2 * lists]),
        "loss": lambda: trial.suggest_categorical("loss", ["listnet", "bce", "ranknet", "lambda", "list_mle"]),
        "distil_weight": lambda: trial.suggest_float("distil_weight", 0.1, 0.9),
    }
    return {hyperparameter: suggest[hyperparameter]() for hyperparameter in hyperparameters}


def as_it_is(run: FinetuneConfig, hyperparameters: list[Hyperparameter]) -> dict[str, Any]:
    """Where the run's own config has each hyperparameter; the first trial, for others to be better than."""
    now = {
        "learning_rate": run.optimizer.learning_rate,
        "rank": run.lora.rank,
        "lora_dropout": min(run.lora.dropout, 0.3),
        "weight_decay": min(max(run.optimizer.weight_decay, 1e-4), 0.3),
        "lists_per_step": run.optimizer.lists_per_step,
        "loss": "list_mle" if run.loss == "position_list_mle" else run.loss,
        "distil_weight": min(max(run.distil.weight, 0.1), 0.9),
    }
    return {hyperparameter: now[hyperparameter] for hyperparameter in hyperparameters}


def turned(run: FinetuneConfig, values: dict[str, Any]) -> FinetuneConfig:
    """A copy of the run with hyperparameters turned."""
    result = deepcopy(run)
    for name, value in values.items():
        match name:
            case "rank":
                result.lora.rank, result.lora.alpha = value, 2 * value
            case "lora_dropout":
                result.lora.dropout = value
            case "loss":
                result.loss = value
            case "distil_weight":
                result.distil.weight = value
            case _:
                setattr(result.optimizer, name, value)
    return result


def _queue_cut_short(study: Any) -> None:
    """Trials that were cut short are put in the queue again, each in its folder: there it goes on from its last
    checkpoint."""
    import optuna

    state = optuna.trial.TrialState
    last = {_folder(trial): trial for trial in study.trials}  # of those that went on with one another
    for trial in last.values():
        if trial.state == state.RUNNING:  # killed; an interrupted one has failed
            study.tell(trial.number, state=state.FAIL)
        elif trial.state != state.FAIL:
            continue
        chosen = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        study.enqueue_trial(chosen, user_attrs={_FOLDER_OF: _folder(trial)})


def _folder(trial: Any) -> str:
    """Name of a trial's folder: that of the trial which it goes on with, where there is one."""
    return str(trial.user_attrs.get(_FOLDER_OF, f"trial-{trial.number}"))


def table(study: Any, run: FinetuneConfig) -> Table:
    """The trials, best first."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    view = Table(box=box.SIMPLE_HEAD, title=f"{run.measured_by} on valid")
    for head in ("trial", run.measured_by, *names, ""):
        view.add_column(head, justify="right", overflow="fold")
    finished = [trial for trial in study.trials if trial.value is not None]
    for trial in sorted(finished, key=lambda trial: -trial.value):
        values = (_short(trial.params.get(name, "")) for name in names)
        ended = "" if trial.state.name == "COMPLETE" else "ended early"
        view.add_row(_folder(trial).removeprefix("trial-"), f"{trial.value:.4f}", *values, ended)
    return view


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

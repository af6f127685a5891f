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
from reshelf.data.atomic import atomic, check_writable
from reshelf.errors import DivergedError, InputError
from reshelf.finetune.config import FinetuneConfig
from reshelf.ranges import AT_LEAST_1, SEED, check_numbers

Hyperparameter = Literal[
    "learning_rate", "rank", "lora_dropout", "weight_decay", "lists_per_step", "loss", "distil_weight"
]
STUDY, BEST = "study.db", "best.yaml"


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
        InputError: the run's config or its data cannot be used, there is nothing to search, or optuna is missing.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("`reshelf tune` needs optuna; install it with `pip install reshelf[tune]`") from error
    console = console or Console()
    run = load_yaml(FinetuneConfig, config.run)
    check(config, run)
    config.out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{config.out / STUDY}",
        study_name="reshelf",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=run.eval_every),
        load_if_exists=True,
    )
    _forget_cut_short(study)
    done = sum(trial.state.is_finished() and trial.state != optuna.trial.TrialState.FAIL for trial in study.trials)
    if not done:
        study.enqueue_trial(as_it_is(run, config.hyperparameters), skip_if_exists=True)
    for _ in range(done, config.trials):
        study.sampler = optuna.samplers.TPESampler(seed=trial_seed(config.seed, len(study.trials)))
        study.optimize(lambda trial: _try(trial, config, run, console), n_trials=1)
    best = turned(run, study.best_params)
    best.out = config.out / "best"
    with atomic(config.out / BEST) as partial:
        found = f"{run.metric} {study.best_value:.4f} on valid"
        header = f"# Trial {study.best_trial.number} of {len(study.trials)}: {found}.\n"
        partial.write_text(header + config_text(best), encoding="utf-8")
    console.print(table(study, run))
    console.print(f"reshelf finetune --config {config.out / BEST}", highlight=False)


def check(config: TuneConfig, run: FinetuneConfig) -> None:
    """What can be wrong before the first trial."""
    if not config.hyperparameters:
        raise InputError("hyperparameters is empty; give something to search, e.g. [learning_rate, rank]")
    if "distil_weight" in config.hyperparameters and not run.distil.feature:
        raise InputError(f"hyperparameters: distil_weight needs a teacher; set distil.feature in {config.run}")
    check_writable(config.out)


def trial_seed(seed: int, number: int) -> int:
    """Each trial draws from a stream of its own, so that a search that goes on draws what a longer one would have."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _try(trial: Any, config: TuneConfig, run: FinetuneConfig, console: Console) -> float:
    """One trial's best validation metric."""
    from reshelf.finetune.run import finetune

    chosen = turned(run, suggested(trial, config.hyperparameters, run))
    chosen.out = config.out / f"trial-{trial.number}"
    console.rule(f"trial {trial.number}: {', '.join(f'{name} {_short(v)}' for name, v in trial.params.items())}")

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


def _forget_cut_short(study: Any) -> None:
    """Trials that a killed search left open are put in the queue again."""
    import optuna

    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)


def table(study: Any, run: FinetuneConfig) -> Table:
    """The trials, best first."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    view = Table(box=box.SIMPLE_HEAD, title=f"{run.metric} on valid")
    for head in ("trial", run.metric, *names, ""):
        view.add_column(head, justify="right", overflow="fold")
    finished = [trial for trial in study.trials if trial.value is not None]
    for trial in sorted(finished, key=lambda trial: -trial.value):
        values = (_short(trial.params.get(name, "")) for name in names)
        ended = "" if trial.state.name == "COMPLETE" else "ended early"
        view.add_row(str(trial.number), f"{trial.value:.4f}", *values, ended)
    return view


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

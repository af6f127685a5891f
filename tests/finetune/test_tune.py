"""`reshelf tune`: whole runs, judged by validation; a search that was cut short goes on; hopeless trials end early."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from reshelf.config import config_text, load_yaml
from reshelf.errors import InputError
from reshelf.finetune import run as finetuning
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.tune import TuneConfig, as_it_is, tune, turned

optuna = pytest.importorskip("optuna")


@pytest.fixture
def run(config: FinetuneConfig, tmp_path: Path) -> Path:
    config.optimizer.epochs, config.eval_every, config.train_lists = 1, 1, 12
    path = tmp_path / "run.yaml"
    path.write_text(config_text(config))
    return path


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="reshelf", storage=f"sqlite:///{folder / 'study.db'}")


def test_the_best_trial_is_the_config_that_is_written_and_a_cut_search_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tune"
    whole = finetuning.finetune

    def cut(config: FinetuneConfig, watch: object = None) -> float:
        if config.out.name == "trial-1":
            raise KeyboardInterrupt
        return whole(config, watch)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "finetune", cut)
        with pytest.raises(KeyboardInterrupt):
            tune(TuneConfig(run, out, trials=3), quiet())
    assert not (out / "best.yaml").exists()
    console = quiet()
    tune(TuneConfig(run, out, trials=3), console)
    trials = study(out).trials
    assert trials[0].params == as_it_is(load_yaml(FinetuneConfig, run), TuneConfig(run, out).hyperparameters)
    judged = [trial for trial in trials if trial.value is not None]
    assert len(judged) == 3
    best = load_yaml(FinetuneConfig, out / "best.yaml")
    expected = turned(load_yaml(FinetuneConfig, run), study(out).best_params)
    expected.out = out / "best"
    assert best == expected
    assert best.lora.alpha == 2 * best.lora.rank
    shown = console.file.getvalue()
    for trial in judged:
        assert f"{trial.value:.4f}" in shown
    tune(TuneConfig(run, out, trials=3), quiet())
    assert len(study(out).trials) == len(trials), "all trials were there already"


def test_a_search_in_parts_is_the_search_in_one_piece(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the search is tested here, so a formula stands for the training."""
    monkeypatch.setattr(finetuning, "finetune", lambda config, watch: -abs(config.optimizer.learning_rate - 1e-3))
    for trials in (4, 7, 12):
        tune(TuneConfig(run, tmp_path / "parts", trials=trials), quiet())
    tune(TuneConfig(run, tmp_path / "whole", trials=12), quiet())
    parts, whole = ([trial.params for trial in study(tmp_path / name).trials] for name in ("parts", "whole"))
    assert parts == whole
    assert len({tuple(params.values()) for params in parts}) == 12


def test_mistakes_come_before_the_first_trial(run: Path, tmp_path: Path) -> None:
    for change, sentence in (
        ({"trials": 0}, "trials is 0"),
        ({"hyperparameters": []}, "hyperparameters is empty"),
        ({"hyperparameters": ["distil_weight"]}, "needs a teacher"),
        ({"run": tmp_path / "none.yaml"}, "none.yaml"),
    ):
        with pytest.raises(InputError, match=sentence):
            tune(TuneConfig(**{"run": run, "out": tmp_path / "tune", **change}))
    assert not (tmp_path / "tune").exists()

"""`reshelf tune`: whole runs, judged by validation; a search that was cut short goes on; hopeless trials end early."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from reshelf.config import config_text, load_yaml
from reshelf.data.atomic import locked_folder
from reshelf.errors import DivergedError, InputError
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


def test_a_trial_that_was_cut_goes_on_in_its_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = tmp_path / "tune", finetuning.finetune

    def cut(config: FinetuneConfig, watch: Callable[[int, float], None]) -> float:
        def stop(step: int, value: float) -> None:
            watch(step, value)
            if step == 2:
                raise KeyboardInterrupt

        return whole(config, stop)

    with monkeypatch.context() as patched:
        patched.setattr(finetuning, "finetune", cut)
        with pytest.raises(KeyboardInterrupt):
            tune(TuneConfig(run, out, trials=1), quiet())
    assert list((out / "trial-0" / "checkpoints").glob("checkpoint-*"))
    capsys.readouterr()
    console = quiet()
    tune(TuneConfig(run, out, trials=1), console)
    assert "step     1" not in capsys.readouterr().out, "the first step is not made again"
    assert [path.name for path in sorted(out.glob("trial-*"))] == ["trial-0"]
    assert "trial 0: learning_rate" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_study_is_of_one_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "finetune", lambda config, watch: -config.optimizer.learning_rate)
    out = tmp_path / "tune"
    tune(TuneConfig(run, out, trials=2), quiet())
    best, other = (out / "best.yaml").read_bytes(), tmp_path / "other.yaml"
    other.write_text(run.read_text().replace("weight_decay: 0.0", "weight_decay: 0.5"))
    with pytest.raises(InputError, match=r"another search: config optimizer.weight_decay was 0.0 and is 0.5; finish"):
        tune(TuneConfig(other, out, trials=3), quiet())
    assert (out / "best.yaml").read_bytes() == best
    assert len(study(out).trials) == 2
    with locked_folder(out, "search"), pytest.raises(InputError, match="another search is writing there"):
        tune(TuneConfig(run, out, trials=3), quiet())
    (out / "study.db").write_text("not a study")
    with pytest.raises(InputError, match=r"study.db cannot be read: .*; delete it, or choose another --out"):
        tune(TuneConfig(run, out, trials=3), quiet())
    (out / "study.db").unlink()
    (out / "trial-0").mkdir()
    with pytest.raises(InputError, match=r"holds trials but no study.db; delete the folder"):
        tune(TuneConfig(run, out, trials=3), quiet())


def test_a_run_whose_input_is_mended_begins_as_it_is(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad.yaml", tmp_path / "tune"
    bad.write_text(run.read_text().replace("base: ", "base: /nowhere"))
    with pytest.raises(InputError, match=r"has no config\.json"):
        tune(TuneConfig(bad, out, trials=1), quiet())
    assert "Traceback" not in capfd.readouterr().err
    assert not out.exists()
    monkeypatch.setattr(finetuning, "finetune", lambda config, watch: 0.5)
    tune(TuneConfig(run, out, trials=1), quiet())
    asked = as_it_is(load_yaml(FinetuneConfig, run), TuneConfig(run, out).hyperparameters)
    assert study(out).trials[-1].params == asked


def test_trials_that_all_diverge_are_one_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(config: FinetuneConfig, watch: object) -> float:
        raise DivergedError("step 1: the loss is NaN")

    monkeypatch.setattr(finetuning, "finetune", diverges)
    console = quiet()
    with pytest.raises(DivergedError, match=r"none of 2 trials came to an end, .* lower optimizer.learning_rate"):
        tune(TuneConfig(run, tmp_path / "tune", trials=2), console)
    assert console.file.getvalue().count("step 1: the loss is NaN") == 2  # type: ignore[attr-defined]
    assert not (tmp_path / "tune" / "best.yaml").exists()

"""Training that came to nothing ends in one sentence and saves nothing of it; a constant model is warned about."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reshelf.cli import main
from reshelf.config import config_text
from reshelf.errors import DivergedError
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.finetune.trainer import ListTrainer


def spoil(monkeypatch: pytest.MonkeyPatch, step: int, what: str, value: float) -> None:
    """From a step on: the loss, its gradients or the weights that it left are `value`."""
    original = ListTrainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        loss = original(self, model, inputs, *arguments, **named)
        if self.state.global_step + 1 < step:
            return loss
        if what == "loss":
            return loss * value
        weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
        if what == "gradients":
            loss.register_hook(lambda gradient: gradient * value)
        else:
            self.optimizer.optimizer.register_step_post_hook(lambda *_: weight.data.fill_(value))
        return loss

    monkeypatch.setattr(ListTrainer, "compute_loss", compute_loss)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("what", "step", "said"),
    [
        ("loss", 5, "step 5: the loss is NaN or infinite"),
        ("gradients", 5, "step 5: the gradients are NaN or infinite"),
        ("weights", 6, r"step 6: scores are NaN or infinite in 6 of 6 validation lists \('.*' first\)"),
    ],
)
def test_nan_ends_the_run_and_keeps_the_last_good_checkpoint(
    what: str, step: int, said: str, value: float, config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, step, what, value)
    with pytest.raises(
        DivergedError, match=rf"{said}.* of step 3, is kept in .*lower optimizer\.learning_rate"
    ) as told:
        finetune(config)
    assert "\n" not in str(told.value)
    assert [path.name for path in (config.out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-3"]
    assert not (config.out / "reshelf.json").exists()


def test_the_command_says_it_in_one_line_and_fails(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch, 1, "loss", math.nan)
    (tmp_path / "run.yaml").write_text(config_text(config))
    assert main(["finetune", "--config", str(tmp_path / "run.yaml")]) == 1
    assert capsys.readouterr().err.startswith(
        "reshelf: step 1: the loss is NaN or infinite, so training ended, and noth"
    )


def test_a_model_that_ranks_nothing_is_counted_and_warned_about_once(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    from reshelf.finetune import validation

    original = validation.score
    monkeypatch.setattr(validation, "score", lambda model, packed: 0 * original(model, packed))
    with caplog.at_level(logging.WARNING, "reshelf.finetune"):
        finetune(config)
    said = [record.getMessage() for record in caplog.records if record.name == "reshelf.finetune"]
    assert len(said) == 1
    assert "step 3: the model hardly tells candidates apart" in said[0]
    assert "6 lists are unranked" in said[0]
    assert " ".join(capsys.readouterr().out.split()).count("6 lists unranked") == 3


def test_a_model_that_ranks_is_not(config: FinetuneConfig, caplog: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finetune(replace(config, out=config.out / "fine"))
    assert not [record for record in caplog.records if record.name == "reshelf.finetune"]
    assert "unranked" not in capsys.readouterr().out

"""Which checkpoint is kept, and how long training waits for a better one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState

from reshelf.finetune.checkpoint_choice import kept_checkpoint
from reshelf.finetune.trainer import ListTrainer

METRIC = "eval_ndcg@10"
NUMBERS = st.floats(0, 1, width=16)
HISTORIES = st.lists(
    st.fixed_dictionaries({METRIC: NUMBERS, f"{METRIC}_error": NUMBERS, "eval_loss": NUMBERS}), min_size=1, max_size=12
)


@given(HISTORIES)
def test_within_an_error_of_the_best_and_not_one_that_was_dropped(history: list[dict[str, float]]) -> None:
    kept = [kept_checkpoint(history[: n + 1], METRIC) for n in range(len(history))]
    for n, number in enumerate(kept):
        assert number in (n, kept[n - 1]), "the checkpoints before are gone, but for the kept one"
        best = max(history[: n + 1], key=lambda one: one[METRIC])
        assert history[number][METRIC] >= best[METRIC] - best[f"{METRIC}_error"]


@given(HISTORIES)
def test_the_metric_alone_decides_where_it_has_no_error(history: list[dict[str, float]]) -> None:
    exact = [one | {f"{METRIC}_error": 0.0} for one in history]
    kept = exact[kept_checkpoint(exact, METRIC)]
    best = [one for one in exact if one[METRIC] == max(one[METRIC] for one in exact)]
    assert kept["eval_loss"] == min(one["eval_loss"] for one in best)
    assert kept in best


@given(HISTORIES)
def test_the_loss_alone_decides_where_the_metric_cannot(history: list[dict[str, float]]) -> None:
    vague = [one | {f"{METRIC}_error": 1.0} for one in history]
    assert vague[kept_checkpoint(vague, METRIC)]["eval_loss"] == min(one["eval_loss"] for one in vague)


@pytest.mark.parametrize(("losses", "stops"), [((3.0, 2.0, 1.0), False), ((1.0, 2.0, 3.0), True)])
def test_patience_counts_validations_since_the_kept_one(losses: tuple[float, ...], stops: bool) -> None:
    trainer: Any = object.__new__(ListTrainer)
    trainer.args = type("Arguments", (), {"metric_for_best_model": METRIC})
    trainer._patience, trainer.control, trainer.state = 2, TrainerControl(), TrainerState()
    for step, loss in enumerate(losses, start=1):
        found = {METRIC: 0.8 - step / 1000, f"{METRIC}_error": 0.02, "eval_loss": loss, "step": step}
        trainer.state.log_history += [{"loss": 1.0, "step": step}, found]
        assert trainer._determine_best_metric(found, None) == (step == 1 or not stops)
    assert trainer.control.should_training_stop == stops
    assert trainer.state.best_global_step == (1 if stops else 3)
    assert trainer.state.best_metric == 0.8 - trainer.state.best_global_step / 1000

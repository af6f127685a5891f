"""A reranker is promoted where it is surely better on what was served, and a worse one never, whenever it is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from reshelf.cli import main
from reshelf.data import atomic
from reshelf.data.dataset_folder import RankingData
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation import promotion
from reshelf.evaluation.promotion import Improvement, PromoteConfig, improvement, promote
from reshelf.inference.ranking import NonFiniteScoreError
from reshelf.metrics.bootstrap import Interval

ETA = 0.7


@pytest.fixture(scope="module")
def served() -> list[RankingList]:
    """Shown in the order of a running model that is neither first-stage order nor the best."""
    config = MarketplaceConfig(
        seed=9, train_lists=300, valid_lists=0, test_lists=0, items_per_category=20, candidates=10, position_bias=ETA,
        promotion=0.5,
    )  # fmt: skip
    return simulate(config).lists["train"]


def scores(lists: list[RankingList], noise: float, seed: int) -> list[np.ndarray]:
    """Better than what was shown the less noise there is on the true utility."""
    rng = np.random.default_rng(seed)
    return [np.log(one.utility) + noise * rng.normal(size=len(one.candidates)) for one in lists]


def running(lists: list[RankingList]) -> list[np.ndarray]:
    return [-np.array(one.positions, dtype=float) for one in lists]


def test_the_better_model_is_promoted_and_a_worse_one_never(served: list[RankingList]) -> None:
    propensities = np.arange(1, 11) ** -ETA
    good = scores(served, 0.5, 0)
    better = improvement(good, running(served), served, propensities)
    assert better.is_sure
    assert better.new - better.running == pytest.approx(better.difference.mean)
    same = improvement(good, good, served, propensities)
    assert (same.is_sure, same.difference) == (False, (0.0, 0.0, 0.0))
    no_better = [
        improvement(scores(served, 3.0, n), scores(served, 3.0, n + 99), served, propensities) for n in range(20)
    ]
    assert sum(one.is_sure for one in no_better) <= 2
    for n in range(20):
        worse = improvement(scores(served, 6.0, n), scores(served, 3.0, n + 99), served, propensities)
        assert not worse.is_sure
    few = served[:40]
    assert not improvement(scores(few, 0.0, 0), running(few), few, propensities).is_sure


def killed_at(step: int, call: Callable[[], object]) -> bool:
    """Whether a process that is killed at its `step`-th change of a file or folder has not ended before."""
    if (child := os.fork()) == 0:
        left = step

        def kill(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            writes = event == "open" and arguments[1] not in ("r", "rb", None)
            if writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.unlink", "ctypes.dlsym"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        try:
            call()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(("exchanges", "sure"), [(True, True), (False, True), (True, False)])
def test_who_is_killed_and_repeats_says_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, sure: bool
) -> None:
    low = 0.01 if sure else -0.01
    monkeypatch.setattr(promotion, "_compared", lambda _: Improvement(0.9, 0.8, Interval(0.1, low, 0.2), 500))
    if not exchanges:
        monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)
    step, was_killed = -1, True
    while was_killed:
        step += 1
        folder = tmp_path / str(step)
        new, running, out = folder / "new", folder / "model", folder / "out.json"
        for path, text in ((new, "new"), (running, "running"), (folder / "model.before", "before")):
            (path / "adapter").mkdir(parents=True)
            (path / "reshelf.json").write_text(text)
            (path / "adapter" / "weights").write_text(text)
        config = PromoteConfig(new, running, folder, folder, out=out)
        was_killed = killed_at(step, lambda config=config: promote(config))  # type: ignore[misc]
        if exchanges:  # else there is a moment without
            assert (running / "reshelf.json").read_text() == (running / "adapter" / "weights").read_text()
        promote(config)
        assert json.loads(out.read_text())["promoted"] == sure
        assert (running / "adapter" / "weights").read_text() == ("new" if sure else "running")
        if sure:
            assert (folder / "model.before" / "adapter" / "weights").read_text() == "running"
            os.utime(new / "reshelf.json", (1, 1))  # trained again, to the same weights
            monkeypatch.setattr(promotion, "_compared", lambda _: Improvement(0.9, 0.9, Interval(0, -0.1, 0.1), 500))
            promote(config)
            assert not json.loads(out.read_text())["promoted"]
            monkeypatch.setattr(promotion, "_compared", lambda _: Improvement(0.9, 0.8, Interval(0.1, low, 0.2), 500))
    assert step > (8 if sure else 1)


def test_a_model_whose_scores_are_no_numbers_is_named_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], served: list[RankingList]
) -> None:
    """Weights that are numbers, and overflow; it was a traceback."""

    class Overflows:
        def scores(self, *_: object) -> None:
            raise NonFiniteScoreError("list l1: the model gave a score that is not a number")

    for name in ("read_reranker", "read_propensities"):
        monkeypatch.setattr(promotion, name, lambda *_: None)
    data = RankingData({}, {"test": served})
    monkeypatch.setattr(promotion, "load_dataset_folder", lambda *_: data)
    monkeypatch.setattr(promotion, "finetuned", lambda *_, **__: nullcontext(Overflows()))
    for name in ("new", "model"):
        (tmp_path / name).mkdir()
    words = ["promote", str(tmp_path / "new"), "--over", str(tmp_path / "model"), "--data", "d", "--propensities", "p"]
    assert main(words) == 1
    assert "new cannot be compared: list l1: the model gave a score that is not a number" in capsys.readouterr().err
    assert not any((tmp_path / "model").iterdir())


@pytest.mark.parametrize(
    ("shoppers", "why"), [(99, "it takes 100 shoppers with a click"), (100, "it is not surely better")]
)
def test_it_is_said_why_a_model_was_not_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shoppers: int, why: str
) -> None:
    low = 0.01 if shoppers < 100 else 0.0
    monkeypatch.setattr(promotion, "_compared", lambda _: Improvement(0.9, 0.8, Interval(0.1, low, 0.2), shoppers))
    promote(PromoteConfig(tmp_path / "new", tmp_path / "model", tmp_path, tmp_path))
    assert f"not promoted, for {why}: " in capsys.readouterr().out


@pytest.mark.parametrize("way", ["link", "."])
def test_a_reranker_is_replaced_by_whatever_name_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(promotion, "_compared", lambda _: Improvement(0.9, 0.8, Interval(0.1, 0.01, 0.2), 500))
    (tmp_path / "current").symlink_to("model")
    for night, name in enumerate(("running", "first", "second")):
        folder = tmp_path / ("model" if not night else name)
        folder.mkdir()
        (folder / "reshelf.json").write_text(name)
        if night:
            monkeypatch.chdir(tmp_path / "model")
            over = tmp_path / "current" if way == "link" else Path(".")
            promote(PromoteConfig(folder, over, tmp_path, tmp_path))
            assert (tmp_path / "current" / "reshelf.json").read_text() == name
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "model.before" / "reshelf.json").read_text() == "first"


def test_a_place_that_cannot_be_taken_is_found_before_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_called(_: object) -> None:
        raise AssertionError("compared")

    monkeypatch.setattr(promotion, "_compared", not_called)
    config = PromoteConfig(tmp_path / "new", tmp_path / "model", tmp_path, tmp_path)
    (tmp_path / "model").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_mount", str)
        with pytest.raises(InputError, match=r"model is a mount.*mount .* instead"):
            promote(config)

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(InputError, match=r"no folder can take the place of .*model: .* cannot be written to"):
        promote(config)

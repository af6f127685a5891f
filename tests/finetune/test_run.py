"""`reshelf finetune` as a whole: what it leaves, that it learns, resumes after a kill, and refuses bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from reshelf.data.atomic import locked_folder
from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.data.signals import Signals, Texts
from reshelf.data.signals.kept import FOLDER, keep_signals, open_signals
from reshelf.errors import InputError
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.resume import remove_checkpoints
from reshelf.finetune.run import finetune, is_finished
from reshelf.modeling.checkpoint import load_reranker
from reshelf.modeling.lift import Lift
from reshelf.modeling.spec import read_spec
from tests.finetune.conftest import short_run
from tests.finetune.curves import valid_and_kept
from tests.finetune.killed import finetune_killed, finetune_killed_while_removing
from tests.forked import exit_code


def curve(folder: Path) -> dict:
    return json.loads((folder / "curve.json").read_text())


@pytest.fixture
def finished(config: FinetuneConfig) -> FinetuneConfig:
    finetune(config)
    return config


def test_leaves_a_reranker_a_curve_and_a_card(finished: FinetuneConfig) -> None:
    names = {path.name for path in finished.out.iterdir()}
    assert {"adapter", "base", "reshelf.json", "tokenizer.json", "config.yaml", "curve.json", "curve.png"} <= names
    assert "checkpoints" not in names
    assert [point["step"] for point in curve(finished.out)["train"]] == list(range(1, 9))
    assert [point["step"] for point in curve(finished.out)["valid"]] == [3, 6, 8]
    card = (finished.out / "README.md").read_text()
    _, kept = valid_and_kept(finished.out, "ndcg@10")
    assert f"was kept: step {kept['step']}, {kept['ndcg@10']:.4f}." in " ".join(card.split())
    assert load_reranker(finished.out, "cpu").spec.prompt == replace(finished.prompt, language="en")


def test_says_whether_it_beats_first_stage_order_and_is_not_overwritten_without_a_word(
    config: FinetuneConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config.optimizer.learning_rate = 0.0  # it stays what it was, which is no better
    finetune(config)
    lift = read_spec(config.out).lift
    assert lift is not None
    assert lift.low <= lift.ndcg - lift.first_stage <= lift.high
    assert not lift.helps
    assert lift.sentence() in capsys.readouterr().out
    assert lift.sentence() in (config.out / "README.md").read_text()
    assert "first-stage order. Do not serve it yet" in lift.sentence()
    assert "it beats first-stage order" in Lift(0.5, 0.4, 0.01, 0.2, 30).sentence()
    before = (config.out / "curve.json").read_bytes()
    with pytest.raises(InputError, match="holds a finished reranker; give --overwrite"):
        finetune(replace(config, seed=1))
    assert (config.out / "curve.json").read_bytes() == before
    finetune(replace(config, seed=1, overwrite=True))
    assert (config.out / "curve.json").read_bytes() != before


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, shop: Path, base: Path) -> Path:
    """What the run leaves that nothing kills."""
    config = short_run(shop, base, tmp_path_factory.mktemp("uninterrupted") / "model")
    finetune(config)
    return config.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "call"),
    [("training_step", 2), ("training_step", 5), ("training_step", 8), ("_save_optimizer_and_scheduler", 2)],
)
def test_killed_and_resumed_the_curve_is_the_uninterrupted_one(
    config: FinetuneConfig, uninterrupted: Path, method: str, call: int
) -> None:
    """Killed before the first checkpoint, between two, after the last, and while one is being written."""
    assert exit_code(finetune_killed, config, method, call) == -signal.SIGKILL
    assert not (config.out / "reshelf.json").exists()
    finetune(config)
    assert curve(config.out) == curve(uninterrupted)
    ours, theirs = (load_file(out / "adapter/adapter_model.safetensors") for out in (config.out, uninterrupted))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("removed", [False, True])
def test_killed_while_it_removes_its_checkpoints_it_is_finished_or_goes_on(
    config: FinetuneConfig, uninterrupted: Path, removed: bool
) -> None:
    assert exit_code(finetune_killed_while_removing, config, removed) == -signal.SIGKILL
    assert is_finished(config.out) == removed
    if not removed:
        finetune(config)
    remove_checkpoints(config.out)
    assert curve(config.out) == curve(uninterrupted)
    assert {path.name for path in config.out.iterdir()} == {path.name for path in uninterrupted.iterdir()}


@pytest.mark.slow
def test_it_learns_the_training_lists(config: FinetuneConfig) -> None:
    config.optimizer.epochs, config.max_candidates, config.lora.dropout, config.patience = 25, 0, 0.0, 99
    config.optimizer.learning_rate, config.eval_every = 1e-2, 50
    finetune(config)
    losses = [point["loss"] for point in curve(config.out)["train"]]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_an_unfinished_run_is_not_finished_with_something_else(
    config: FinetuneConfig, tmp_path: Path, data: RankingData
) -> None:
    shutil.copytree(config.data, tmp_path / "shop")
    shutil.copytree(config.model.base, tmp_path / "base")
    config = replace(config, data=tmp_path / "shop", model=replace(config.model, base=str(tmp_path / "base")))
    assert exit_code(finetune_killed, config, "training_step", 5) == -signal.SIGKILL

    def refused(match: str, **changes: object) -> None:
        with pytest.raises(InputError, match=f"holds an unfinished run of another kind: {match}; finish it"):
            finetune(replace(config, **changes))  # type: ignore[arg-type]

    refused("config seed was 0 and is 1", seed=1)
    refused("config lora.rank was 4 and is 2", lora=replace(config.lora, rank=2))
    others = {split: data.lists[split][:-1] if split == "valid" else data.lists[split] for split in ("train", "valid")}
    save_dataset_folder(tmp_path / "others", RankingData(data.items, others))
    refused(r"data valid\.parquet has changed", data=tmp_path / "others")
    weights = tmp_path / "base/model.safetensors"
    before = weights.read_bytes()
    save_file({name: 1.01 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    refused(r"base model\.safetensors has changed")
    weights.write_bytes(before)
    # Where the same files lie does not matter.
    shutil.move(tmp_path / "shop", tmp_path / "moved")
    finetune(replace(config, data=tmp_path / "moved"))
    assert (config.out / "reshelf.json").is_file()


def test_bad_input_is_one_sentence_and_leaves_nothing(
    config: FinetuneConfig, tmp_path: Path, data: RankingData
) -> None:
    def refused(match: str, **changes: object) -> None:
        with pytest.raises(InputError, match=match) as caught:
            finetune(replace(config, **changes))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert not config.out.exists()

    refused("is not there", data=tmp_path / "nowhere")
    refused("no training list of .* has a device; map it", prompt=replace(config.prompt, context=["device"]))
    refused("no config.json", model=replace(config.model, base=str(tmp_path)))
    refused(
        "prompt's features name 'thirst'; add it to signals.names in the mapping",
        prompt=replace(config.prompt, features=["thirst"]),
    )
    refused(
        r"may be 8\d{5} tokens long .* reads \d+ \(max_position", prompt=replace(config.prompt, history_tokens=800_000)
    )
    bare = RankingData(
        data.items, {s: [r.model_copy(update={"labels": None}) for r in data.lists[s]] for s in ("train", "valid")}
    )
    save_dataset_folder(tmp_path / "bare", bare)
    refused("field labels", data=tmp_path / "bare")
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused("cannot write", out=blocked / "model")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused_before_training(config: FinetuneConfig, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot write"):
        finetune(replace(config, out=locked / "model"))


def test_what_the_prompts_numbers_are_counted_from_goes_into_the_reranker(
    config: FinetuneConfig, data: RankingData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = [item.title for item in data.items.values()]
    signals = Signals.of(Texts(titles, titles, [()] * len(titles), titles), None)
    folder = tmp_path / "shop"
    folder.mkdir()
    keep_signals(folder / FOLDER, signals, pa.array(list(data.items)), ["match", "bm25"])
    kept = open_signals(folder / FOLDER)
    assert kept is not None

    def counted(one: RankingList) -> RankingList:
        numbers = {"bm25": tuple(kept.compute(one, ["bm25"])["bm25"].tolist()), "teacher": one.scores}
        return one.model_copy(update={"features": numbers})

    save_dataset_folder(folder, RankingData(data.items, {k: [*map(counted, v)] for k, v in data.lists.items()}))
    finetune(
        replace(
            config, data=folder, prompt=replace(config.prompt, features=["bm25", "teacher"]),
            optimizer=replace(config.optimizer, max_steps=1), eval_every=1,
        )
    )  # fmt: skip
    found = open_signals(config.out / FOLDER)
    assert found is not None
    assert found.names == ("bm25",)
    said = " ".join(capsys.readouterr().out.split())
    assert "does not keep what teacher is computed from; requests that do not send it are ranked without it" in said
    one = data.lists["test"][0]
    np.testing.assert_array_equal(found.compute(one, ["bm25"])["bm25"], kept.compute(one, ["bm25"])["bm25"])


def test_two_runs_do_not_train_in_one_folder(config: FinetuneConfig) -> None:
    config.out.mkdir()
    with locked_folder(config.out, "training"), pytest.raises(InputError, match="another training is writing there"):
        finetune(config)
    assert list(config.out.iterdir()) == []


def test_a_run_that_another_one_was_faster_than_leaves_nothing(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def late(folder: Path, job: str) -> Iterator[None]:
        with locked_folder(folder, job):
            (folder / "reshelf.json").write_text("{}")  # the other one ended while this one prepared itself
            yield

    monkeypatch.setattr("reshelf.finetune.run.locked_folder", late)
    with pytest.raises(InputError, match="holds a finished reranker; give --overwrite"):
        finetune(config)
    assert [path.name for path in config.out.iterdir()] == ["reshelf.json"]


def test_a_run_that_was_killed_before_its_first_checkpoint_was_none(config: FinetuneConfig) -> None:
    (config.out / "checkpoints").mkdir(parents=True)
    finetune(replace(config, optimizer=replace(config.optimizer, max_steps=1), eval_every=1))
    assert not (config.out / "checkpoints").exists()

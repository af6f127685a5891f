"""What an unfinished run must find as it left it, and what it may not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from reshelf.data.signals.kept import FOLDER
from reshelf.finetune import run
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.resume import changes, fingerprint, made_of
from reshelf.finetune.run import finetune
from tests.modeling.killed import contents


def test_a_run_that_was_moved_before_it_was_saved_keeps_its_best_checkpoint(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last step nothing is saved any more that would name the best checkpoint where it lies now."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reshelf.finetune.trainer.kept_checkpoint", lambda *_: 0)
    with monkeypatch.context() as disk:
        disk.setattr(run, "save_reranker", full)
        with pytest.raises(OSError, match="No space"):
            finetune(config)
    best = load_file(config.out / "checkpoints/checkpoint-3/adapter_model.safetensors")
    moved = replace(config, out=tmp_path / "larger" / "model")
    moved.out.parent.mkdir()
    shutil.move(config.out, moved.out)
    finetune(moved)
    kept = load_file(moved.out / "adapter/adapter_model.safetensors")
    assert all(np.array_equal(kept[name], best[name]) for name in best)


def test_until_another_is_whole_the_reranker_that_is_there_is_what_it_was(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    finetune(config)
    (config.out / "notes.txt").write_text("ours")
    before, another = contents(config.out), replace(config, seed=1, overwrite=True)
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_card", fails)  # the last file
        with pytest.raises(KeyboardInterrupt):
            finetune(another)
    left = contents(config.out)
    assert {name: left[name] for name in left if not name.startswith("checkpoints/")} == before
    finetune(another)
    after = contents(config.out)
    assert after.keys() == before.keys(), "nothing is left, and nothing of others is gone"
    assert {name for name in after if after[name] != before[name]} >= {"config.yaml", "curve.json", "README.md"}
    assert f'("{config.out}")' in after["README.md"].decode()


def test_signals_that_changed_are_said_to_have(config: FinetuneConfig, tmp_path: Path) -> None:
    """What prompts are trained on was computed from them, and a copy of them goes into the reranker."""
    folder = tmp_path / "shop"
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / "counts.arrow").write_bytes(b"1")
    about = folder / FOLDER / "signals.json"
    about.write_text(json.dumps({"names": ["popularity"], "decay": 0.5, "made": "2026-01-01"}))
    config = replace(config, data=folder, prompt=replace(config.prompt, features=["popularity"]))
    before = fingerprint(config, 1)
    about.write_text(json.dumps({"names": ["popularity"], "decay": 0.5, "made": "2026-01-02"}))
    assert fingerprint(config, 1) == before, "made again from the same log"
    about.write_text(json.dumps({"names": ["popularity"], "decay": 0.9, "made": "2026-01-02"}))
    assert changes(before, fingerprint(config, 1)) == "data signals/signals.json has changed"
    (folder / FOLDER / "counts.arrow").write_bytes(b"2")
    assert changes(before, fingerprint(config, 1)).startswith("data signals/counts.arrow has changed; data signals/")
    without = replace(config, prompt=replace(config.prompt, features=[]))
    assert not any("signals/" in name for name in fingerprint(without, 1)), "nothing of them is used"


@pytest.mark.parametrize("name", ["tokenizer.model", "merges.txt", "modeling_own.py", "model.safetensors"])
def test_any_file_that_a_base_is_read_from_is_looked_at(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"1")
    (tmp_path / "README.md").write_bytes(b"1")
    before = made_of({}, {}, str(tmp_path))
    (tmp_path / "README.md").write_bytes(b"2")
    assert made_of({}, {}, str(tmp_path)) == before
    (tmp_path / name).write_bytes(b"2")
    assert changes(before, made_of({}, {}, str(tmp_path))) == f"base {name} has changed"

"""A reranker that is saved over another one: there is the one or the other, whole, at every moment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from reshelf.modeling.checkpoint import load_reranker, save_reranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.spec import RerankerSpec
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels
from tests.forked import exit_code
from tests.modeling.killed import contents, saves_killed


def saved(base: Path, folder: Path, seed: int, template: str) -> Path:
    config = ModelConfig(base=str(base), dtype="float32")
    model, tokenizer = load_base(config, "cpu")
    torch.manual_seed(seed)
    spec = RerankerSpec(config, PromptConfig(template=template), FeatureLevels())
    save_reranker(folder, add_lora(model, LoraConfig(rank=2)), tokenizer, spec)
    return folder


@pytest.fixture
def old(base_folder: Path, tmp_path: Path) -> Path:
    """One whose folder holds other things too."""
    folder = saved(base_folder, tmp_path / "old", 1, "plain")
    (folder / "notes" / "of").mkdir(parents=True)
    (folder / "notes" / "of" / "ours").write_text("of the shop")
    (folder / "report.md").write_text("good")
    return folder


@pytest.fixture
def new(base_folder: Path, tmp_path: Path) -> Path:
    base = Path(shutil.copytree(base_folder, tmp_path / "base"))
    (base / "LICENSE.txt").write_text("of another base")
    return saved(base, tmp_path / "new", 2, "plain")


@pytest.mark.parametrize(("exchange", "kills"), [(True, 16), (False, 8)])
def test_killed_at_any_moment_it_is_the_old_or_the_new_one(
    old: Path, new: Path, tmp_path: Path, exchange: bool, kills: int
) -> None:
    found = tmp_path / "found.json"
    assert exit_code(saves_killed, old, new, kills, exchange, found) == 0
    left = json.loads(found.read_text())
    assert set(left) == {"old", "new"}
    assert len(left) == kills


def test_what_else_lies_in_the_folder_stays(old: Path, new: Path) -> None:
    old.chmod(0o750)
    os.symlink("report.md", old / "link")
    notes = old / "notes" / "of" / "ours"
    was = notes.stat().st_ino
    trained = load_reranker(new, "cpu")
    save_reranker(old, trained.model, trained.tokenizer, trained.spec)
    assert load_reranker(old, "cpu").spec.base_sha256 == trained.spec.base_sha256
    save_reranker(new.with_name("alone"), trained.model, trained.tokenizer, trained.spec)
    others = {name: contents(old)[name] for name in ("notes/of/ours", "report.md", "link")}
    assert contents(old) == contents(new.with_name("alone")) | others
    assert (notes.read_text(), notes.stat().st_ino) == ("of the shop", was), "not copied"
    assert os.readlink(old / "link") == "report.md"
    assert oct(old.stat().st_mode)[-3:] == "750", "nobody else may read it now"

"""Every door that loads a reranker refuses code in it, until its caller says otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reshelf.cli import main
from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList


@pytest.fixture(scope="module")
def with_code(reranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "model"
    shutil.copytree(reranker_folder, folder)
    (folder / "extra.py").write_text("raise RuntimeError('it ran')\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Item], lists: list[RankingList]) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "data"
    labelled = [one.model_copy(update={"labels": (1, *[0] * (len(one.candidates) - 1))}) for one in lists]
    save_dataset_folder(folder, RankingData(catalogue, {"test": labelled}))
    return folder


Door = Callable[[Path, Path, Path], list[str]]
DOORS: dict[str, Door] = {
    "rerank": lambda model, data, out: ["rerank", "--model", str(model), "--data", str(data), "--list_id", "l5"],
    "batch": lambda model, data, out: [
        "batch", "--model", str(model), "--lists", str(data / "test.parquet"), "--catalogue", str(data),
        "--out", str(out / "batch"),
    ],
    "evaluate": lambda model, data, out: [
        "evaluate", "--data", str(data), "--model", str(model), "--out", str(out / "report"), "--limit", "2",
        "--systems", "[finetuned,base]", "--resamples", "10",
    ],
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_code_is_refused_until_the_caller_trusts_it(
    door: str, with_code: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*DOORS[door](with_code, data, tmp_path), "--engine", "transformers"]
    assert main(arguments) == 2
    assert "extra.py is code" in capsys.readouterr().err
    assert main([*arguments, "--trust_remote_code", "true"]) == 0


def test_a_server_refuses_it(with_code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["serve", "--model", str(with_code), "--engine", "transformers", "--port", "0"]
    assert main([*arguments, "--history", str(tmp_path / "history.sqlite")]) == 2
    assert "extra.py is code" in capsys.readouterr().err

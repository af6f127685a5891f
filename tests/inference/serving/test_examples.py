"""The examples in the docstrings of `Reranker` and the clients run, with a model and a server where they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from tests.inference.serving.server import Server
from tests.reshelf.test_documents import NEED_A_MODEL, ROOT, run_examples


@pytest.mark.parametrize("path", NEED_A_MODEL)
def test_they_run(
    path: str, server: Server, reranker_folder: Path, catalogue: dict[str, Item], lists: list[RankingList],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "model").symlink_to(reranker_folder)
    save_dataset_folder(tmp_path / "runs" / "demo" / "data", RankingData(catalogue, {"test": lists}))
    monkeypatch.chdir(tmp_path)
    run_examples(ROOT / path, {"http://localhost:8000": server.url})

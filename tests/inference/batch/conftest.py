"""A job on the tiny reranker, in this process."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reshelf.data.dataset_folder import ITEM_SCHEMA, write_records
from reshelf.data.schema import Item, RankingList
from reshelf.inference.batch.run import BatchConfig, batch
from reshelf.inference.reranker import Reranker


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Item]) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "items.parquet"
    write_records(path, catalogue.values(), ITEM_SCHEMA)
    return path


@pytest.fixture(scope="module")
def expected(reranker_folder: Path, catalogue: dict[str, Item], lists: list[RankingList]) -> dict[str, np.ndarray]:
    with Reranker.from_pretrained(reranker_folder, "transformers", catalogue) as reranker:
        return dict(zip([r.list_id for r in lists], reranker.score_lists(lists)))


@pytest.fixture
def run(reranker_folder: Path, items: Path, tmp_path: Path) -> Any:
    """Runs a job on the tiny reranker; returns its report and what it printed."""

    def call(lists: Path | str, out: Path | None = None, **options: Any) -> tuple[dict[str, Any], str]:
        said = StringIO()
        fields = {"model": str(reranker_folder), "catalogue": items, "engine": "transformers"} | options
        config = BatchConfig(lists=str(lists), out=out or tmp_path / "out", **fields)
        return batch(config, Console(file=said, width=200)), said.getvalue()

    return call

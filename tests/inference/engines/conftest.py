"""The tiny reranker, loaded in this process, and its prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from reshelf.data.schema import Item, RankingList
from reshelf.modeling.checkpoint import TrainedReranker, load_reranker
from reshelf.prompts.list_prompt import ListPrompt


@pytest.fixture(scope="module")
def loaded(reranker_folder: Path) -> TrainedReranker:
    return load_reranker(reranker_folder, "cpu")


@pytest.fixture(scope="module")
def prompts(loaded: TrainedReranker, catalogue: dict[str, Item], lists: list[RankingList]) -> list[ListPrompt]:
    builder = loaded.builder(catalogue)
    return [builder.build(ranking) for ranking in lists]

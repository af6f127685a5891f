"""A reranker that takes its catalogue's token ids from a file gives the same scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.inference.reranker import Reranker
from reshelf.prompts.item_tokens import ItemTokens


def test_the_file_is_made_and_used(
    reranker_folder: Path, catalogue: dict[str, Item], lists: list[RankingList], tmp_path: Path
) -> None:
    path = tmp_path / "item_tokens.arrow"
    with Reranker.from_pretrained(reranker_folder, "transformers", catalogue, "cpu") as plain:
        expected = plain.score_lists(lists)
        request = {"scores": [2.0, 1.0], "history": [{"kind": "click", "item_id": "p7"}]}
        changed = catalogue["p3"].model_copy(update={"title": "blue wool coat"})
        alone = plain.rerank("coat", [changed, "p4"], **request)
    for _ in range(2):
        with Reranker.from_pretrained(reranker_folder, "transformers", catalogue, "cpu", item_tokens=path) as reranker:
            scores = reranker.score_lists(lists)
            # An item that is not the catalogue's own is read as it was given.
            assert reranker.rerank("coat", [changed, "p4"], **request) == alone
        assert all(np.array_equal(a, b) for a, b in zip(scores, expected, strict=True))
        assert len(ItemTokens.open(path)) == len(catalogue)
    path.write_bytes(b"notes")
    with pytest.raises(InputError, match=r"item_tokens\.arrow is not a whole file of item tokens"):
        Reranker.from_pretrained(reranker_folder, "transformers", catalogue, "cpu", item_tokens=path)
    assert path.read_bytes() == b"notes"

"""The server over vLLM: the same requests give the orders of the transformers engine, and explanations too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reshelf.data.schema import Item, RankingList
from reshelf.inference.client import Client
from reshelf.inference.reranker import Reranker
from tests.inference.serving.server import Server
from tests.inference.serving.test_rerank import body

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running: Server = serve(tmp_path_factory.mktemp("vllm"), "--engine", "vllm")
    yield running
    assert running.close() == 0


def test_server_and_client_over_vllm_give_the_offline_order(
    served: Server, reranker_folder: Path, catalogue: dict[str, Item], lists: list[RankingList]
) -> None:
    with (
        Reranker.from_pretrained(reranker_folder, "transformers", catalogue, device="cpu") as offline,
        Client(served.url, timeout_s=60) as client,
    ):
        for ranking in lists:
            ranked = offline.rerank(
                ranking.query,
                ranking.candidates,
                ranking.history,
                scores=ranking.scores,
                context=ranking.context,
                explain=len(ranking.history) < 9,
            )
            fields = body(ranking, explain=len(ranking.history) < 9)
            reply = client.rerank(fields.pop("query"), fields.pop("documents"), **fields)
            assert (reply.meta.engine, reply.meta.fallback, reply.meta.unexplained) == ("vllm", None, None)
            assert [ranking.candidates[one.index] for one in reply.results] == list(ranked.item_ids)
            for one, entry in zip(reply.results, ranked, strict=True):
                assert one.score == pytest.approx(entry.score, abs=1e-3)
                if entry.explanation is not None and one.explanation is not None:
                    told = {(r.kind, r.name, r.event): r.change for r in one.explanation.reasons}
                    for reason in entry.explanation.reasons:
                        key = reason.kind, reason.name, reason.event
                        assert told[key] == pytest.approx(reason.change, abs=2e-3)
        fields = body(lists[0])
        again = client.rerank(fields.pop("query"), fields.pop("documents"), **fields)
        assert again.meta.cached_tokens > 0

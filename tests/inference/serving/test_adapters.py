"""Rerank adapters of LangChain and LlamaIndex, unchanged but for the address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_cohere import CohereRerank as LangChainRerank
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank as LlamaIndexRerank
from pydantic import SecretStr

from reshelf.prompts.levels import FeatureLevels
from tests.inference.conftest import make_reranker
from tests.inference.serving.server import Server

TEXTS = ["red mug", "blue wool coat", "steel bottle", "soft wool jacket"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a model that reads no numbers, which these clients have no field for."""
    folder = tmp_path_factory.mktemp("adapters")
    model = make_reranker(folder, TEXTS, FeatureLevels())
    running = Server(
        folder / "server.log", "--model", model, "--engine", "transformers", "--history", folder / "history.sqlite"
    )
    yield running
    assert running.close() == 0


def test_langchain(server: Server) -> None:
    rerank = LangChainRerank(base_url=server.url, cohere_api_key=SecretStr("any"), model="reshelf", top_n=3)
    found = rerank.compress_documents([Document(page_content=text) for text in TEXTS], "blue coat")
    assert [(one.page_content, one.metadata["relevance_score"]) for one in found] == best(server)


def test_llamaindex(server: Server) -> None:
    rerank = LlamaIndexRerank(base_url=server.url, api_key="any", model="reshelf", top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    found = rerank.postprocess_nodes(nodes, QueryBundle("blue coat"))
    assert [(one.node.get_content(), one.score) for one in found] == best(server)


def best(server: Server) -> list[tuple[str, float]]:
    reply = server.rerank(query="blue coat", documents=TEXTS, top_n=3).json()
    assert "fallback" not in reply["meta"]
    return [(TEXTS[one["index"]], one["relevance_score"]) for one in reply["results"]]

#!/usr/bin/env bash
# Guess: QueryFusionRetriever joins what its retrievers found by the id of the node: two products with one title are two results, and one
#   product found by both retrievers is one.
# Happens: it goes by a hash of text and metadata, without the id, in every mode. Two sizes or sellers with one title are one result, with
#   the votes of both, above a product that was first in every list; the other is gone, and not even the better of the two stays.
# Source: llama-index-core 0.14.25, retrievers.QueryFusionRetriever (node.hash), schema.TextNode.hash. Put the SKU into the metadata.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q llama-index-core==0.14.25
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import NodeWithScore, TextNode

print("llama-index-core", importlib.metadata.version("llama-index-core"))


class Fixed(BaseRetriever):
    def __init__(self, rows):
        self.rows = rows
        super().__init__()

    def _retrieve(self, query):
        return [NodeWithScore(node=TextNode(id_=sku, text=text, metadata=more), score=1.0 / place)
                for place, (sku, text, more) in enumerate(self.rows, 1)]


def fused(words, vectors, mode):
    retriever = QueryFusionRetriever(
        [Fixed(words), Fixed(vectors)], llm=MockLLM(), mode=mode, num_queries=1, similarity_top_k=10, use_async=False
    )
    return [found.node.id_ for found in retriever.retrieve("wool coat")]


twins = [("sku-1", "Red coat", {}), ("sku-2", "Wool coat", {}), ("sku-3", "Wool coat", {})]
apart = [(sku, text, {"sku": sku}) for sku, text, _ in twins]
found = {}
for mode in ("reciprocal_rerank", "relative_score", "simple"):
    found[mode] = fused(twins, twins, mode), fused(apart, apart, mode)
    print(f"{mode:18} three products, two of one title: {found[mode][0]}; with the SKU in the metadata: {found[mode][1]}")
assert all(len(two) == 2 and "sku-1" in two and three == ["sku-1", "sku-2", "sku-3"] for two, three in found.values())
assert found["reciprocal_rerank"][0] == ["sku-3", "sku-1"]
PYTHON

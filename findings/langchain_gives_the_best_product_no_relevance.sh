#!/usr/bin/env bash
# Guess: FAISS.from_texts(..., distance_strategy=MAX_INNER_PRODUCT): the relevance of a product (similarity_search_with_relevance_scores, "0 is
#   dissimilar, 1 is most similar") rises with its inner product; as_retriever(search_type="similarity_score_threshold",
#   search_kwargs={"score_threshold": 0.6}) keeps the products like the query. With COSINE it searches by the cosine.
# Happens: relevance is 1 less the inner product: the product that is the query itself has 0, one at a right angle 1, the opposite 1. The
#   threshold drops the best products and keeps the worst, without a word as long as all are within 0 and 1. With COSINE the
#   index is one of Euclidean distances: a long vector in the query's own direction comes last, behind the opposite one.
# Source: langchain-community 0.4.2 (which is "being sunset", and the last) with langchain-core 1.8.3, VectorStore._max_inner_product_relevance_score_fn:
#   right for stores that give a distance, and FAISS gives the product; langchain#14948 and langchain-community#427 are open. Vectors of length 1
#   and the Euclidean distance (the default) have the right order; similarity_search_with_score has the products as they are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q langchain-community==0.4.2 langchain-core==1.8.3 faiss-cpu==1.15.1 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from langchain_core.embeddings import Embeddings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package says that it is no longer maintained
    from langchain_community.vectorstores import FAISS
    from langchain_community.vectorstores.utils import DistanceStrategy

warnings.simplefilter("error")
print("langchain-community", version("langchain-community"), "langchain-core", version("langchain-core"), "faiss-cpu", version("faiss-cpu"))


class Angles(Embeddings):
    """A text says the angle of its vector, and its length."""

    def embed_query(self, text: str) -> list[float]:
        angle, length = (float(part) for part in text.split(" x "))
        return [length * float(np.cos(np.radians(angle))), length * float(np.sin(np.radians(angle)))]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


query = "0 x 1"
store = FAISS.from_texts(["5 x 1", "30 x 1", "60 x 1", "85 x 1"], Angles(), distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT)
products = {some.page_content: round(float(score), 2) for some, score in store.similarity_search_with_score(query)}
relevance = {some.page_content: round(float(score), 2) for some, score in store.similarity_search_with_relevance_scores(query)}
kept = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.6}).invoke(query)
print("inner products:", products)
print("relevance:     ", relevance)
print("threshold 0.6 keeps", [some.page_content for some in kept])
assert list(products) == ["5 x 1", "30 x 1", "60 x 1", "85 x 1"]
assert sorted(relevance, key=relevance.get) == list(products)
assert [some.page_content for some in kept] == ["85 x 1"]

texts = ["0 x 10", "60 x 1", "180 x 1"]
found = FAISS.from_texts(texts, Angles(), distance_strategy=DistanceStrategy.COSINE).similarity_search_with_score(query, k=3)
print("COSINE:", [(some.page_content, round(float(score), 2)) for some, score in found])
assert [some.page_content for some, _ in found] == ["60 x 1", "180 x 1", "0 x 10"]
PYTHON

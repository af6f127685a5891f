#!/usr/bin/env bash
# Guess: a hybrid search that gives the text 0.9 and the vectors 0.1 (LinearCombinationReranker(weight=0.1)) puts the one product whose text has
#   the SKU that was typed first, or near it; two products of which one matches better keep both something of their match.
# Happens: text scores are stretched to 0 … 1 in each search, so that the worst text hit has 0, which is what a product without any of the words
#   has. The only hit is the worst: it adds nothing, comes where its vector puts it, and is not among the ten where that is not, with any
#   weight, and with normalize="rank" too. Beside a second hit, however poor, it counts in full, and is first with weight 0.1.
# Source: lancedb 0.40.0, lancedb.query, LanceHybridQueryBuilder._normalize_scores, and rerankers/linear_combination.py, which fills up with 0; its
#   pages say that scores are normalised. RRFReranker (the default) goes by places and finds it, as below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q lancedb==0.40.0 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import lancedb
import numpy as np
from lancedb.index import FTS
from lancedb.rerankers import LinearCombinationReranker, RRFReranker

print("lancedb", version("lancedb"))
chance = np.random.default_rng(0)
vectors = chance.normal(size=(200, 16)).astype(np.float32)
query = chance.normal(size=16).astype(np.float32)
by_vector = np.argsort(((vectors - query) ** 2).sum(1))
wanted = {"4th": int(by_vector[3]), "100th": int(by_vector[99])}


def place(table, product, reranker, normalize="score"):
    search = table.search(query_type="hybrid").vector(query).text(f"sku{product}").limit(10)
    found = search.rerank(reranker, normalize=normalize).to_arrow()["product"].to_pylist()
    return found.index(product) + 1 if product in found else None


texts = [f"red running shoe, light and soft, sku{n}" for n in range(len(vectors))]
found = {}
for hits in (1, 2):
    rows = [{"product": n, "text": text, "vector": vector} for n, (text, vector) in enumerate(zip(texts, vectors))]
    if hits == 2:  # a bag of patches names both shoes, in a longer text
        names = " ".join(f"sku{product}" for product in wanted.values())
        rows.append({"product": -1, "text": f"bag of patches, glue and laces for {names} and many others", "vector": -query})
    table = lancedb.connect(f"shop{hits}").create_table("products", rows)
    table.create_index("text", config=FTS())
    table.wait_for_index([index.name for index in table.list_indices()])
    for name, product in wanted.items():
        assert table.search(f"sku{product}", query_type="fts").to_arrow()["product"].to_pylist()[0] == product
        for weight in (0.7, 0.1):
            for normalize in ("score", "rank"):
                found[hits, name, weight, normalize] = place(table, product, LinearCombinationReranker(weight=weight), normalize)
        found[hits, name, "rrf", "score"] = place(table, product, RRFReranker())
        print(f"{hits} text hit(s), {name} by its vector: place {found[hits, name, 0.7, 'score']} with weight 0.7, "
              f"{found[hits, name, 0.1, 'score']} with 0.1 ({found[hits, name, 0.1, 'rank']} by rank), {found[hits, name, 'rrf', 'score']} by RRF")  # fmt: skip
for normalize in ("score", "rank"):
    for weight in (0.7, 0.1):
        assert found[1, "4th", weight, normalize] == 4
        assert found[1, "100th", weight, normalize] is None
    assert found[2, "4th", 0.1, normalize] == found[2, "100th", 0.1, normalize] == 1
assert all(found[1, name, "rrf", "score"] <= 2 for name in wanted)
PYTHON

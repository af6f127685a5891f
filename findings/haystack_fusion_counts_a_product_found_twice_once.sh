#!/usr/bin/env bash
# Guess: DocumentJoiner("distribution_based_rank_fusion") is distribution-based score fusion as others have it (Qdrant's DBSF): scores of
#   each retriever are brought to the same spread and added, so that a product which both find comes before one that only one finds.
# Happens: nothing is added. A product has the better of its two scores: found first by one and second by the other, it stands behind what
#   a single retriever has first, and to be found by both is worth nothing. And where a retriever found one product, or all with
#   one score, that score is left as it is: a BM25 score of 8 stands above every other product, a cosine of 0.3 below most. No word.
# Source: haystack-ai 3.4.1, components/joiners/document_joiner.py: the best score of a duplicate is kept, and equal scores "preserve their
#   original scores"; the component's page says "assigns scores based on scores distribution". "reciprocal_rank_fusion" adds up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q haystack-ai==3.4.1 qdrant-client==1.20.0 numpy==2.4.6
HAYSTACK_TELEMETRY_ENABLED=False "$folder/venv/bin/python" -W error - <<'PYTHON'
from importlib.metadata import version

from haystack import Document
from haystack.components.joiners import DocumentJoiner
from qdrant_client.http.models import ScoredPoint
from qdrant_client.hybrid.fusion import distribution_based_score_fusion, reciprocal_rank_fusion

print("haystack-ai", version("haystack-ai"), "qdrant-client", version("qdrant-client"))
numbers = {"shoe": 0, "boot": 1, "hat": 2, "cap": 3, "sock": 4}
names = {number: name for name, number in numbers.items()}


def joined(mode: str, *lists: dict) -> dict:
    found = [[Document(id=name, content=name, score=score) for name, score in some.items()] for some in lists]
    return {some.id: round(some.score, 3) for some in DocumentJoiner(join_mode=mode).run(documents=found)["documents"]}


def qdrant(fusion: object, *lists: dict) -> dict:
    found = [[ScoredPoint(id=numbers[name], version=0, score=score, payload={}) for name, score in some.items()] for some in lists]
    return {names[some.id]: round(some.score, 3) for some in fusion(responses=found, limit=10)}


dbsf = "distribution_based_rank_fusion"
text = {"shoe": 9.1, "boot": 8.9, "hat": 3.0, "cap": 2.0}
vectors = {"sock": 0.81, "boot": 0.80, "cap": 0.30, "hat": 0.20}
one = joined(dbsf, text, vectors)
print("boot is second of both")
print("  haystack's distribution-based fusion:", one)
print("  qdrant's distribution-based fusion:  ", qdrant(distribution_based_score_fusion, text, vectors))
print("  haystack's reciprocal ranks:         ", joined("reciprocal_rank_fusion", text, vectors))
print("  qdrant's reciprocal ranks:           ", qdrant(reciprocal_rank_fusion, text, vectors))
for both in (qdrant(distribution_based_score_fusion, text, vectors), joined("reciprocal_rank_fusion", text, vectors)):
    assert next(iter(both)) == "boot"
assert list(one)[0] != "boot" and list(one)[1] != "boot"
assert one["boot"] == max(joined(dbsf, text)["boot"], joined(dbsf, vectors)["boot"])

for score in (8.0, 0.3):
    single = joined(dbsf, {"cap": score}, {"shoe": 0.9, "boot": 0.8, "hat": 0.2})
    print(f"cap is the only one of its list, with the score {score}:", single)
    assert single["cap"] == score
PYTHON

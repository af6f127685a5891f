"""The documents of a reply, best first.

results = ranked_documents(request, items, ranked, arranged, teams)
results += invalid_documents(request, items, len(results))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reshelf.data.schema import Item
from reshelf.inference.ranking import Ranked
from reshelf.inference.rules import Arranged
from reshelf.inference.serving.schemas import RankedDocument, RerankRequest
from reshelf.modeling.calibration import sigmoid


def ranked_documents(
    request: RerankRequest, items: Mapping[int, Item], ranked: Ranked | None, arranged: Arranged,
    teams: Mapping[int, str],
) -> list[RankedDocument]:  # fmt: skip
    """Best first.

    Args:
        items: by place in the request, those that are items.
        ranked: None where there are no scores.
        arranged: their order; first-stage order where there are no scores.
        teams: arms that picked candidates, by place among `items`.
    """
    places = list(items)
    relevance = [1 / (1 + k) for k in range(len(places))]
    scores: Sequence[float | None] = [None] * len(places)
    probabilities = scores
    if ranked is not None:
        relevance = sigmoid(ranked.values).tolist()
        scores = ranked.scores.tolist()
        probabilities = probabilities if ranked.probabilities is None else ranked.probabilities.tolist()
    results = []
    for k in arranged.order[: request.top_n].tolist():
        index = places[k]
        sent, item = request.documents[index], items[index]
        results.append(
            RankedDocument(
                index=index,
                relevance_score=relevance[k],
                score=scores[k],
                probability=probabilities[k],
                item_id=item.item_id if item.item_id == sent or not isinstance(sent, str) else None,
                document=_document(sent, item.title) if request.return_documents else None,
                rules=arranged.notes.get(k, []),
                team=teams.get(k),
            )
        )
    return results


def invalid_documents(request: RerankRequest, items: Mapping[int, Item], before: int) -> list[RankedDocument]:
    """Documents that are none, behind those that are."""
    rest = [n for n in range(len(request.documents)) if n not in items]
    return [
        RankedDocument(
            index=index,
            relevance_score=0.0,
            document=_document(request.documents[index], "") if request.return_documents else None,
        )
        for index in rest[: None if request.top_n is None else request.top_n - before]
    ]


def _document(sent: str | Mapping[str, Any], title: str) -> dict[str, Any]:
    """As the clients of others expect it, with a `text`."""
    if isinstance(sent, str):
        return {"text": title or sent}
    return {"text": title, **sent}

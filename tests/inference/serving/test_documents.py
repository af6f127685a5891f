"""Documents and queries as shops send them: what is broken costs its own place, not the list."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inference.serving.server import Server


def test_documents_that_are_none_come_last_and_are_named(server: Server) -> None:
    documents = ["red mug", {"price": 3}, "p1", {"title": "coat", "price": -1}, "p1", " ", "blue coat"]
    good = [n for n, one in enumerate(documents) if n in (0, 2, 6)]
    only = server.rerank(query="coat", documents=[documents[n] for n in good], scores=[3.0, 2.0, 1.0]).json()
    for changes in ({}, {"top_n": 4}, {"deadline_ms": 0.001}):
        scores = [3.0, 9.0, 2.0, 9.0, 9.0, 9.0, 1.0]
        said = server.rerank(query="coat", documents=documents, scores=scores, return_documents=True, **changes).json()
        assert list(said["meta"]["invalid"]) == [
            "documents[1].title",
            "documents[3].price",
            "documents[4]",
            "documents[5]",
        ]
        order = [one["index"] for one in said["results"]]
        ranked = good if "deadline_ms" in changes else [good[one["index"]] for one in only["results"]]
        assert order == [*ranked, 1, 3, 4, 5][: changes.get("top_n", 7)]
        assert [one["relevance_score"] for one in said["results"]][3:] == [0.0] * (len(order) - 3)
    assert server.rerank(query="coat", documents=[" ", {}]).json()["field"] == "documents[0]"
    ranks = server.http.post("/rerank", json={"query": "a", "texts": ["", "mug"], "raw_scores": True, "impute": True})
    assert [one["index"] for one in ranks.json()] == [1, 0]


def test_a_title_and_a_text_are_both_read_whatever_their_order(server: Server) -> None:
    def score(document: dict[str, Any], **fields: Any) -> float:
        said = server.rerank(query="coat", documents=[document, "mug"], scores=[2.0, 1.0], **fields).json()
        return next(float(one["score"]) for one in said["results"] if one["index"] == 0)

    both = score({"title": "blue coat", "description": "soft wool"})
    assert score({"title": "blue coat", "text": "soft wool"}) == pytest.approx(both, abs=1e-5)
    assert score({"text": "soft wool", "title": "blue coat"}) == pytest.approx(both, abs=1e-5)
    title, text = score({"title": "blue coat"}), score({"title": "soft wool"})
    assert both != pytest.approx(title, abs=1e-5)
    fields = {"title": "blue coat", "text": "soft wool", "brand": "Nord"}
    assert score(fields, rank_fields=["title"]) == pytest.approx(title, abs=1e-5)
    assert score(fields, rank_fields=["text"]) == pytest.approx(text, abs=1e-5)
    assert score(fields, rank_fields=["title", "text"]) == pytest.approx(both, abs=1e-5)


def test_a_query_above_the_limit_is_cut_and_counted(server: Server) -> None:
    reply = server.rerank(query="coat " * 4001, documents=["mug", "coat"])
    assert reply.json()["meta"]["truncated"]["query_characters"] == 5
    assert "fallback" not in reply.json()["meta"]


def test_a_number_may_be_larger_than_any_machine_counts(server: Server) -> None:
    """Of every whole number in a request."""
    large = 10**30
    item = {"item_id": "p", "title": "mug", "rating_count": large}
    for changes in (
        {"top_n": large}, {"rules": {"pins": [{"item_id": "p", "place": large}]}}, {"documents": [item, "a"]},
        {"rules": {"limits": [{"per": "brand", "at_most": large}]}}, {"scores": [large, 1]},
        {"history": [{"kind": "click", "item_id": "p"}], "history_items": [item]}, {"features": {"f": [large, 1]}},
    ):  # fmt: skip
        assert server.rerank(**{"documents": [{"title": "mug"}, {}], "impute": True} | changes).status_code == 200

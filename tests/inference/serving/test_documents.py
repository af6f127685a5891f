"""Documents and queries as shops send them: what is broken costs its own place, not the list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from reshelf.data.schema import Item
from reshelf.inference.serving.documents import items_of
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


def test_an_id_with_some_fields_is_the_catalogues_item_with_these(server: Server, catalogue: dict[str, Item]) -> None:
    """A shop sends what changes by the hour, the price or the stock, and has the rest in its catalogue."""
    whole = catalogue["p3"].model_dump(mode="json", exclude_none=True)

    def result(document: dict[str, Any], **fields: Any) -> float:
        said = server.rerank(query="coat", documents=[document, "mug"], scores=[2.0, 1.0], **fields).json()
        assert "invalid" not in said["meta"]
        return next(float(one["score"]) for one in said["results"] if one["index"] == 0)

    assert result({"id": "p3", "description": "wool"}) == result({**whole, "description": "wool"})
    assert result({"id": "p3", "description": "wool"}) != result(whole)
    assert result({"id": "p3", "description": "wool"}, rank_fields=["price"]) == result(whole)
    assert result({"id": "p3", "title": "x"}) == result({"title": "x"}), "an item of the shop's own, all of it"
    stock = {"id": "p3", "attributes": {"stock": "out"}}
    rules = {"never": [{"attributes.stock": ["out"], "brand": ["Nord"]}]}
    said = server.rerank(query="coat", documents=[stock, "mug"], scores=[2.0, 1.0], rules=rules).json()
    assert [one["index"] for one in said["results"]] == [1]
    coloured = {"p3": catalogue["p3"].model_copy(update={"attributes": {"colour": "red", "stock": "in"}})}
    items, _ = items_of([stock], coloured)
    assert items[0].attributes == {"colour": "red", "stock": "out"}


def test_names_that_no_model_and_no_item_has_are_named_or_refused(server: Server) -> None:
    asked: dict[str, Any] = {
        "query": "coat", "documents": ["mug", {"title": "red mug", "pric": 3}, {"text": "blue mug", "pric": 4}],
        "features": {"popularty": [1, 2, 3]}, "scores": [3.0, 2.0, 1.0],
    }  # fmt: skip
    said = server.rerank(**asked).json()
    assert said["meta"]["ignored"] == ["features.popularty", "documents[1].pric"]
    assert server.rerank(**asked, strict=True).json()["field"] == "features.popularty"
    del asked["features"]
    assert server.rerank(**asked, strict=True).json()["field"] == "documents[1].pric"
    assert "ignored" not in server.rerank(**asked, rank_fields=["title", "text"], strict=True).json()["meta"]
    asked["documents"] = [{"title": "mug", f"{'x' * 200}{n}": 1} for n in range(30)]
    ignored = server.rerank(**asked | {"scores": None}, impute=True, usr_id="u").json()["meta"]["ignored"]
    assert ignored[0] == "usr_id"
    assert len(ignored) == 20
    assert max(map(len, ignored)) == 100


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


DEEP: dict[str, Any] = {"title": "red mug"}
for _ in range(150):
    DEEP = {"title": "red mug", "own": DEEP}
NORD, COAT, CHAIR = (
    {"id": "a", "title": "red mug", "brand": "Nord"}, {"id": "b", "title": "blue coat"}, {"id": "c", "title": "chair"}
)  # fmt: skip


def pins(*named: tuple[str, Any]) -> dict[str, Any]:
    return {"rules": {"pins": [{"item_id": item_id, "place": place} for item_id, place in named]}}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"top_n": True}, "top_n", "true and false are no numbers"),
        ({"deadline_ms": True}, "deadline_ms", "true and false are no numbers"),
        ({"personalization": True}, "personalization", "true and false are no numbers"),
        ({"personalization": "high"}, "personalization", "valid number"),
        ({"scores": [1.0, True, 0.5]}, "scores[1]", "true and false are no numbers"),
        (pins(("a", True)), "rules.pins[0].place", "true and false are no numbers"),
        ({"rules": {"never": {"brand": ["Nord"]}}}, "rules.never", "valid list"),
        ({"rules": {"never": [{"brand": "Nord"}]}}, "rules.never[0].brand", "valid list"),
        ({"rules": {"pin": []}}, "rules.pin", "there is no such field"),
        ({"rules": "never"}, "rules", "valid dictionary"),
        ({"documents": ["red mug", ["blue coat"]]}, "documents[1]", "neither a text nor an object"),
        ({"documents": "red mug"}, "documents", "valid list"),
        ({"documents": ["a b"] * 10_001}, "documents", "at most 10000"),
        ({"rank_fields": ["titel"]}, "documents[0].title", "rank_fields names neither title nor text"),
        ({"query": None}, "query", "valid string"),
        ({"history": {"kind": "click", "item_id": "a"}}, "history", "valid list"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(
    server: Server, changes: dict[str, Any], field: str, words: str
) -> None:
    reply = server.rerank(**{"query": "mug", "documents": [NORD, COAT, CHAIR]} | changes)
    assert (reply.status_code, reply.json()["field"]) == (422, field)
    assert words in reply.json()["message"]


@pytest.mark.parametrize(
    ("changes", "order", "meta"),
    [
        ({"documents": [{"id": 1, "title": "mug"}, {"id": "1", "title": "oak"}]}, [0, 1], {"documents[1]": "again"}),
        ({"documents": [{"title": "mug", "price": True}, COAT]}, [1, 0], {"documents[0].price": "no numbers"}),
        ({"documents": [{"title": "mug", "id": False}, COAT]}, [1, 0], {"documents[0].item_id": "valid string"}),
        ({"documents": [{"title": "mug", "attributes": {"size": {"eu": 4}}}, COAT]}, [1, 0],
         {"documents[0].attributes.size": "valid string"}),
        ({"documents": [DEEP, " "]}, [0, 1], {"documents[1]": "an empty text"}),
        ({"documents": ["a"] * 1000}, range(1000), {}),
        (pins(("b", 1), ("a", 1)), [1, 0, 2], {"pinned": 1}),
        (pins(("a", 1), ("b", 1)), [0, 1, 2], {"pinned": 1}),
        (pins(("a", 3), ("a", 1)), [1, 2, 0], {"pinned": 1}),
        (pins(("gone", 1), ("c", 1)), [2, 0, 1], {"pinned": 1}),
        ({"rules": {"only": [{"attributes.stock": ["in"]}]}}, [], {"removed": 3}),
        ({"rules": {"never": [{"attributes.stock": ["out"]}]}}, [0, 1, 2], {}),
        ({"rules": {"only": [{"brand": ["Nord"]}], "never": [{"brand": ["Nord"]}]}}, [], {"removed": 3}),
        ({"rules": {"boosts": [{"where": {"brand": ["Nord"]}, "by": -1e308}] * 3}}, [1, 2, 0], {"boosted": 1}),
        ({"top_n": 99}, [0, 1, 2], {}),
    ],
)  # fmt: skip
def test_what_is_odd_and_has_a_meaning_is_ranked(
    server: Server, changes: dict[str, Any], order: Sequence[int], meta: dict[str, Any]
) -> None:
    """In first-stage order (personalization 0), so that only rules and what is invalid move anything."""
    asked = {"query": "mug", "documents": [NORD, COAT, CHAIR], "personalization": 0, "return_documents": True} | changes
    reply = server.rerank(**asked)
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert "fallback" not in said["meta"]
    assert [one["index"] for one in said["results"]] == list(order)
    assert all(0 <= one["relevance_score"] <= 1 for one in said["results"])
    found = {**said["meta"].get("invalid", {}), **said["meta"].get("rules", {})}
    assert set(found) == set(meta)
    for name, words in meta.items():
        assert found[name] == words or (isinstance(words, str) and words in found[name])

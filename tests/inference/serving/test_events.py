"""Behaviour arrives over HTTP and is in the next ranking; a forgotten shopper is gone from the file."""

from __future__ import annotations

from typing import Any

import pytest

from reshelf.inference.client import Client, ServiceError
from reshelf.inference.serving.schemas import SentEvent
from tests.inference.serving.server import Server, until

DOCUMENTS = [f"p{n}" for n in range(12)]


def scores(server: Server, **fields: Any) -> dict[int, float]:
    said = server.rerank(query="blue wool coat", documents=DOCUMENTS, **fields).json()
    assert "fallback" not in said["meta"]
    return {one["index"]: one["score"] for one in said["results"]}


def test_the_next_ranking_reflects_a_click_until_the_shopper_is_forgotten(server: Server) -> None:
    nobody = scores(server)
    with Client(server.url) as client:
        assert client.send_events([SentEvent(user_id="u/1 ü", kind="click", item_id="p5")]) == 1
        after = scores(server, user_id="u/1 ü")
        assert after == pytest.approx(scores(server, history=[{"kind": "click", "item_id": "p5"}]), abs=1e-2)
        assert after != pytest.approx(nobody, abs=1e-2)
        assert [one.event.item_id for one in client.export("u/1 ü")] == ["p5"]
        client.forget("u/1 ü")
        assert client.export("u/1 ü") == []
    done = [("export", "open", 1), ("forget", "open", 1), ("export", "open", 0)]
    until(lambda: [(one["action"], one["tenant"], one["events"]) for one in server.audits()[-3:]] == done, 10)
    assert all(one["request_id"] and one["user"] for one in server.audits()[-3:])
    assert scores(server, user_id="u/1 ü") == pytest.approx(nobody, abs=1e-5)


def test_an_event_sent_again_is_one_event(server: Server) -> None:
    events = [SentEvent(user_id="twice", kind="click", item_id="p5", event_id=name) for name in ("a", "a", "b")]
    with Client(server.url) as client:
        assert [client.send_events(events), client.send_events(events)] == [2, 0]
    assert server.rerank(query="", documents=DOCUMENTS, user_id="twice").json()["meta"]["history"]["events"] == 2


def test_an_item_that_the_catalogue_lacks_comes_with_its_event(server: Server) -> None:
    new = {"item_id": "new", "title": "Blue wool coat"}
    with Client(server.url) as client:
        with pytest.raises(ServiceError, match=r"events\[0\].item_id"):
            client.send_events([SentEvent(user_id="own", kind="click", item_id="new")])
        client.send_events(
            [SentEvent.model_validate({"user_id": "own", "kind": "click", "item_id": "new", "item": new})]
        )
    with_item = scores(server, history=[{"kind": "click", "item_id": "new"}], history_items=[new])
    assert scores(server, user_id="own") == pytest.approx(with_item, abs=1e-2)


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"attributes": {str(n): "v" * 150 for n in range(150)}}, "events[0]"),  # each of them is short
        ({"category": ["Home" * 30] * 190}, "events[0]"),
        ({"attributes": {"k" * 20_001: "v"}}, "events[0].item.attributes"),
        ({"brand": "b" * 20_001}, "events[0].item.brand"),
    ],
)
def test_an_event_with_its_item_has_a_size(server: Server, item: dict[str, Any], field: str) -> None:
    """Hundreds of them are read for one ranking."""
    event = {"user_id": "u", "kind": "click", "item_id": "x", "item": {"item_id": "x", "title": "mug"} | item}
    reply = server.http.post("/v1/events", json={"events": [event]})
    assert (reply.status_code, reply.json()["field"]) == (422, field)


def test_no_text_and_no_id_is_in_the_log(server: Server) -> None:
    before = len(server.lines())

    def asked() -> list[dict[str, Any]]:
        return [line for line in server.lines()[before:] if line.get("route") == "/v1/rerank"]

    server.rerank(query="secretquery", documents=["secrettitle"], user_id="secretuser")
    wrong = ["secrettitle", "secrettitle", {"price": "secretprice"}]
    server.rerank(query="secretquery", documents=wrong, strict=True)
    server.http.post(
        "/v1/events", json={"events": [{"user_id": "secretuser", "kind": "search", "query": "secretquery"}]}
    )
    server.http.delete("/v1/users/secretuser")
    server.rerank(query="", documents=["mug"])
    until(lambda: len(asked()) == 3, 10)  # lines come in order, so all before this one are there
    assert "secret" not in server.said()
    first, second, _ = asked()
    assert (first["status"], second["status"]) == (200, 422)
    assert first["user"]
    assert first["request_id"] != second["request_id"]

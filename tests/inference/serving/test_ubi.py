"""User Behavior Insights: what its clients send becomes events, and what says nothing of a product is counted."""

from __future__ import annotations

from typing import Any

from reshelf.data.schema import EventKind
from reshelf.inference.client import Client
from reshelf.inference.serving.ubi import UbiRequest, events_of_ubi
from tests.inference.serving.server import Server

AT = "2026-03-01T10:00:{:02}Z"


def did(action: str, second: int, item_id: Any = "p5", **fields: Any) -> dict[str, Any]:
    """As ubi.js records it."""
    named = {} if item_id is None else {"object": {"object_id": item_id, "object_id_field": "sku", "internal_id": "x"}}
    return {
        "application": "shop", "action_name": action, "query_id": "q1", "session_id": "s1", "client_id": "c1",
        "timestamp": AT.format(second), "message_type": "INFO", "message": "…",
        "event_attributes": {**named, "position": {"ordinal": 3}, "page": {"url": "/"}},
    } | fields  # fmt: skip


def test_a_batch_becomes_events_and_the_rest_is_counted() -> None:
    query = {
        "application": "shop", "query_id": "q1", "client_id": "c1", "user_query": "blue coat", "object_id_field": "sku",
        "timestamp": AT.format(1), "query_response_hit_ids": [f"p{n}" for n in range(5000)], "query_attributes": {},
    }  # fmt: skip
    body = UbiRequest.model_validate(
        {
            "queries": [query, query | {"user_query": " "}, query | {"client_id": None}],
            "events": [
                did("purchase", 9), did("add_to_cart", 8), did("click", 7), did("click_through", 6, 7), did("view", 5),
                did("watch", 4, client_id="c2", user_id="u1"), did("impression", 3), did("page_exit", 3, None),
                did("page_exit", 4, None), did("click", 2, "p9"), did("click", 2, None),
                did("click", 2, client_id=None), did("click", 2, "p" * 300),
            ],
        }
    )  # fmt: skip
    events, skipped = events_of_ubi(body, {"p5", "7"}, most=200)
    assert [(one.kind.value, one.user_id, one.item_id or one.query) for one in events] == [
        ("search", "c1", "blue coat"), ("view", "c2", "p5"), ("view", "c1", "p5"), ("click", "c1", "7"),
        ("click", "c1", "p5"), ("cart", "c1", "p5"), ("purchase", "c1", "p5"),
    ]  # fmt: skip
    assert skipped == {
        "action page_exit": 2, "action impression": 1, "no query": 1, "no shopper": 2, "no product": 1,
        "unknown product": 1, "an id too long": 1,
    }  # fmt: skip
    assert len({one.event_id for one in events}) == len(events)
    assert events_of_ubi(body, {"p5", "7"}, most=200)[0] == events, "sent again, events have the same ids"
    assert len(events_of_ubi(body, {}, most=200)[0]) == len(events) + 1, "without a catalogue any product may be one"
    long = UbiRequest.model_validate({"queries": [{"user_query": "x" * 300, "client_id": 7}] * 2})
    (one, two), _ = events_of_ubi(long, {}, most=200)
    assert (one.user_id, one.query, one.event_id, two.kind) == ("7", "x" * 200, None, EventKind.SEARCH)


def test_what_ubi_records_is_in_the_next_ranking(server: Server) -> None:
    batch = {"queries": [{"user_query": "coat", "client_id": "ubi"}], "events": [did("click", 1, client_id="ubi")]}
    assert server.http.post("/v1/ubi", json=batch).json() == {"stored": 2, "skipped": {}}
    meta = server.rerank(query="", documents=["p1", "p2"], user_id="ubi").json()["meta"]
    assert meta["history"]["events"] == 2
    assert server.http.post("/v1/ubi", json={"events": [did("click", 1, client_id="ubi")]}).json()["stored"] == 0
    for wrong, field in (({"events": [{"action_name": "click"}]}, "events[0].timestamp"), ({"events": 3}, "events")):
        reply = server.http.post("/v1/ubi", json=wrong)
        assert (reply.status_code, reply.json()["field"]) == (422, field)
    assert server.http.post("/v1/ubi", json={}).json() == {"stored": 0, "skipped": {}}
    with Client(server.url) as client:
        client.forget("ubi")

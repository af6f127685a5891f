"""Schemathesis over the OpenAPI: whatever comes, no 5xx, no hang, and only what is documented comes back.

make bench NAME=fuzz        # the same with more than 10,000 cases
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.fuzz import command
from reshelf.inference.client import Client
from tests.inference.serving.server import Server


@pytest.mark.slow
def test_whatever_comes_is_answered_as_documented(server: Server, tmp_path: Path) -> None:
    asking = command(server.url, tmp_path, 25)
    done = subprocess.run(asking, capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:]
    assert server.http.get("/ready").status_code == 200


def test_a_shopper_with_any_id_is_forgotten(server: Server) -> None:
    for user_id in ("a/b", "line\nend", "../up", "ü%2F?#", " ", ".", "..", "a/export"):
        events = {"events": [{"user_id": user_id, "kind": "click", "item_id": "p1"}]}
        assert server.http.post("/v1/events", json=events).json() == {"stored": 1}
        with Client(server.url) as client:
            client.forget(user_id)
        meta = server.rerank(query="coat", documents=["p1", "p2"], user_id=user_id).json()["meta"]
        assert meta["history"]["events"] == 0, user_id
    for reply in (server.http.delete("/v1/users/"), server.http.get("/v1/users//export")):
        assert (reply.status_code, reply.json()["field"]) == (422, "user_id"), "nobody was forgotten"


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+06:06", "9999-12-31T23:59:59-05:00"])
def test_a_time_that_is_none_in_utc_is_refused(server: Server, time: str) -> None:
    event = {"kind": "click", "item_id": "p1", "time": time}
    reply = server.http.post("/v1/events", json={"events": [event | {"user_id": "u"}]})
    assert (reply.status_code, reply.json()["field"]) == (422, "events[0].time")
    reply = server.rerank(query="coat", documents=["p1", "p2"], history=[event])
    assert (reply.status_code, reply.json()["field"]) == (422, "history[0].time")
    assert "year 1" in reply.json()["message"]

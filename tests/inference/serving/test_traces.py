"""A request's trace: the caller's span is its parent, its stages are inside, and no shopper is in it; and its id."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from reshelf.errors import InputError
from reshelf.inference.serving.traces import Traces
from tests.inference.serving.receiver import Receiver, Span
from tests.inference.serving.server import Server, until

STAGES = ["read", "history", "signals", "prompt", "wait", "engine", "order"]
CALLER = "00f067aa0ba902b7"


def traced(server: Server, receiver: Receiver, number: int, **body: Any) -> tuple[Span, list[Span]]:
    """The span of a ranking, and those inside it in the order of time."""
    trace_id = f"4bf92f3577b34da6a3ce929d0e0e{number:04x}"
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01", "X-Request-Id": f"traced-{number}"}
    body = {"query": "a secret coat", "documents": ["p1", "p2"], "user_id": "secret shopper", "impute": True} | body
    assert server.http.post("/v1/rerank", json=body, headers=headers).status_code == 200
    until(lambda: any(one.name.startswith("POST") for one in receiver.trace(trace_id)), 10)
    spans = receiver.trace(trace_id)
    (whole,) = [one for one in spans if one.name == "POST /v1/rerank"]
    inside = sorted((one for one in spans if one is not whole), key=lambda one: one.start_time_unix_nano)
    assert all(one.parent_span_id == whole.span_id for one in inside)
    assert whole.parent_span_id.hex() == CALLER
    assert "secret" not in str(spans)
    until(lambda: any(line.get("trace_id") == trace_id for line in server.lines()), 10)
    return whole, inside


def test_a_ranking_is_a_span_with_its_stages_inside(server: Server, receiver: Receiver) -> None:
    whole, inside = traced(server, receiver, 1, deadline_ms=30_000)
    assert [one.name for one in inside] == STAGES
    assert whole.start_time_unix_nano == inside[0].start_time_unix_nano
    for one, following in zip(inside, [*inside[1:], None]):
        assert one.start_time_unix_nano <= one.end_time_unix_nano
        end = whole.end_time_unix_nano if following is None else following.start_time_unix_nano
        assert one.end_time_unix_nano <= end
    said = {one.key: one.value for one in whole.attributes}
    assert (said["http.response.status_code"].int_value, said["reshelf.documents"].int_value) == (200, 2)
    assert (said["reshelf.request_id"].string_value, said["reshelf.fallback"].string_value) == ("traced-1", "")
    assert said["reshelf.prompt_tokens"].int_value > 0


def test_a_fallback_says_where_its_time_went(server: Server, receiver: Receiver) -> None:
    whole, inside = traced(server, receiver, 2, deadline_ms=0.001)
    assert [one.name for one in inside][-2:] == ["fallback", "order"]
    assert {one.key: one.value.string_value for one in whole.attributes}["reshelf.fallback"] == "deadline"


def test_whom_the_caller_does_not_sample_and_who_has_no_tenant_are_not_traced(
    server: Server, receiver: Receiver
) -> None:
    before = len(receiver.spans)
    unsampled = {"traceparent": f"00-4bf92f3577b34da6a3ce929d0e0e4736-{CALLER}-00"}
    server.http.post("/v1/rerank", json={"documents": ["p1"]}, headers=unsampled)
    server.http.get("/ready")
    refused = server.http.post("/v1/rerank", json={}, headers={"traceparent": "no such thing"})
    assert refused.status_code == 422
    until(lambda: len(receiver.spans) > before, 10)
    assert [one.name for one in receiver.spans[before:]] == ["POST /v1/rerank"]
    assert receiver.spans[before].parent_span_id == b""


def test_a_receiver_that_is_away_is_said_once_and_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    traces = Traces("http://127.0.0.1:9")
    scope = {"type": "http", "method": "GET", "scheme": "http", "headers": [], "state": {"request_id": "r", "log": {}}}
    assert len(traces.record(scope, 500, 0.1)) == 32
    traces.close()
    assert sum(record.getMessage() == "traces not sent" for record in caplog.records) == 1


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no URL"):
        Traces(url)


def test_nothing_of_opentelemetry_is_loaded_where_nothing_is_traced() -> None:
    code = "import sys, reshelf.inference.serving.traces; assert not [n for n in sys.modules if 'opentelemetry' in n]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("web-7:a/B.c_d+e=f@g", "web-7:a/B.c_d+e=f@g"),
        ('a"} {é', "a"),
        ("x" * 500, "x" * 128),
        ('";', None),
        ("", None),
    ],
)
def test_a_request_keeps_the_id_that_its_caller_gave_it(server: Server, sent: str, kept: str | None) -> None:
    reply = server.http.post(
        "/v1/rerank", json={"documents": ["mug"]}, headers={"X-Request-Id": sent.encode("latin-1")}
    )
    said = reply.headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{16}", said) if kept is None else said == kept
    assert reply.json()["id"] == said
    until(lambda: any(line.get("request_id") == said for line in server.lines()), 10)

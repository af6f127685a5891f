"""The client against a server that is slow, busy, wrong or shared with a fork; the real one is in serving/."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from reshelf.errors import InputError
from reshelf.inference.client import AsyncClient, Client, ServiceError
from reshelf.inference.serving.schemas import RerankReply, RerankRequest


class Handler(BaseHTTPRequestHandler):
    """Says of a ranking what its query was."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[dict[str, Any]]] = []

    def do_DELETE(self) -> None:
        """As a proxy's page."""
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        reply: dict[str, Any] | None = {"id": body["query"], "model": "m", "results": [], "meta": {"engine": "e"}}
        status, headers = 200, {}
        if body["query"] == "busy":
            status, headers = 503, {"Retry-After": "60"}
        elif body["query"] == "busy until":
            status, headers = 503, {"Retry-After": formatdate(time.time() + 60, usegmt=True)}
        elif body["query"] == "deep":
            status, reply = 500, None
        elif body["query"] == "silent":
            time.sleep(3)
        elif body["query"] == "refused":
            status, reply = 401, {"message": "no key", "request_id": "r"}
        elif body["query"] == "other":
            reply = {"hello": "world"}
        content = json.dumps(reply).encode() if reply else b"[" * 100_000
        if body["query"] == "trickled head":
            for byte in b"HTTP/1.1 200 OK\r\nX-Server: a proxy that sends a byte now and then\r\n":
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body["query"] == "trickle":
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        else:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    """Clients that hang up are what is tested."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with QuietServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ask(url: str, query: str, **fields: Any) -> None:
    with Client(url) as client:
        client.rerank(query, ["a"], **fields)


def ask_async(url: str, query: str, **fields: Any) -> None:
    async def run() -> None:
        async with AsyncClient(url) as client:
            await client.rerank(query, ["a"], **fields)

    asyncio.run(run())


@pytest.mark.parametrize("call", [ask, ask_async])
@pytest.mark.parametrize("query", ["busy", "silent", "trickle", "trickled head"])
def test_a_call_ends_at_its_deadline_whatever_the_server_does(url: str, query: str, call: Callable[..., None]) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceError):
        call(url, query, deadline_ms=200)
    assert time.monotonic() - started < 2


def test_a_client_may_answer_in_first_stage_order_itself(url: str) -> None:
    async def ask_both(query: str) -> list[RerankReply]:
        with Client(url, first_stage=True) as client:
            replies = [client.rerank(query, ["a", "b", "c"], top_n=2, deadline_ms=200)]
        async with AsyncClient(url, first_stage=True) as other:
            return [*replies, await other.rerank(query, ["a", "b", "c"], top_n=2, deadline_ms=200)]

    for query in ("busy", "silent", "other"):
        for reply in asyncio.run(ask_both(query)):
            assert (reply.meta.fallback, [one.index for one in reply.results]) == ("unreachable", [0, 1])
    with Client(url, first_stage=True) as client:
        assert client.rerank("mug", ["a"]).meta.fallback is None
        with pytest.raises(ServiceError, match="no key"):
            client.rerank("refused", ["a"])


@pytest.mark.parametrize("documents", ["lamp", b"lamp", {"title": "lamp"}, {"lamp", "mug"}, None, 3])
def test_what_is_no_list_of_documents_is_refused(url: str, documents: Any) -> None:
    with Client(url) as client:
        with pytest.raises(TypeError, match="give a list"):
            client.rerank("mug", documents)
        with pytest.raises(TypeError, match="give a list"):
            client.send_events(documents)
        if isinstance(documents, set):
            with pytest.raises(ValidationError, match="a set has no order; give a list"):
                RerankRequest(documents=documents)


@pytest.mark.parametrize("fields", [{"scores": {3.5, 1.5}}, {"features": {"f": {3.5, 1.5}}}, {"history": set()}])
def test_what_belongs_to_documents_is_no_set(url: str, fields: dict[str, Any]) -> None:
    with Client(url) as client, pytest.raises(TypeError, match=r"(scores|features\.f|history) is a set; give a list"):
        client.rerank("mug", ["a", "b"], **fields)
    with pytest.raises(ValidationError, match="a set has no order; give a list"):
        RerankRequest(documents=["a", "b"], **fields)


def test_numbers_of_numpy_are_numbers(url: str) -> None:
    with Client(url) as client:
        document = {"id": np.int64(3), "price": np.float32(2.5), "title": np.str_("mug")}
        client.rerank(
            "numpy", [document], scores=np.array([1.5], np.float32), features={"f": [np.int8(2)]}, top_n=np.int64(1)
        )
        sent = Handler.requests[-1]
        assert sent["documents"] == [{"id": 3, "price": 2.5, "title": "mug"}]
        assert (sent["scores"], sent["features"], sent["top_n"]) == ([1.5], {"f": [2.0]}, 1)
        client.rerank("numpy", ["a"], time=np.datetime64("2026-03-01T10:00:00", "ns"))
        assert Handler.requests[-1]["time"] == "2026-03-01T10:00:00Z"
        with pytest.raises(ValidationError):
            client.rerank("numpy", ["a"], scores=np.array([np.nan]))
        with pytest.raises(TypeError, match="cannot be sent"):
            client.rerank("numpy", [{"title": "a", "seller": object()}])
        with pytest.raises(TypeError, match=r"give None where a time is missing \(NaT\)"):
            client.rerank("numpy", ["a"], time=pd.NaT)


def test_a_date_to_come_back_at_is_kept(url: str) -> None:
    asked = len(Handler.requests)
    with Client(url) as client, pytest.raises(ServiceError, match="HTTP 503"):
        client.rerank("busy until", ["a"])
    assert len(Handler.requests) == asked + 1


def test_what_is_not_the_service_is_said_to_be_so(url: str) -> None:
    with Client(url) as client, pytest.raises(ServiceError, match="HTTP 500"):
        client.rerank("deep", ["a"])
    with Client(url) as client, pytest.raises(ServiceError, match="not this service"):
        client.rerank("other", ["a"])


def test_nothing_is_forgotten_by_what_is_not_the_service(url: str) -> None:
    async def forget() -> None:
        async with AsyncClient(url) as client:
            await client.forget("u1")

    with Client(url) as client, pytest.raises(ServiceError, match="not this service"):
        client.forget("u1")
    with pytest.raises(ServiceError, match="not this service"):
        asyncio.run(forget())
    with Client(url) as client:
        for nobody in ("", None, 5):
            with pytest.raises(TypeError, match="give a shopper's id, a text"):
                client.forget(nobody)  # type: ignore[arg-type]


@pytest.mark.parametrize("first_stage", [False, True])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "localhost:8000"}, "'localhost:8000' is no address; give http://"),
        ({"url": ""}, "is no address"),
        ({"url": "http://"}, "is no address"),
        ({"url": "unix:"}, "is no address"),
        ({"key": "rsh_secret\n"}, "key has a line break"),
        ({"key": "ключ"}, "key has a line break or a letter"),
        ({"timeout_s": 0}, "timeout_s is 0; give seconds above 0"),
        ({"timeout_s": None}, "timeout_s is None"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"retries": -1}, "retries is -1; give 0 or more"),
        ({"retries": None}, "retries is None"),
        ({"verify": "/none.pem"}, "verify: /none.pem cannot be read"),
    ],
)
def test_what_no_call_could_succeed_with_is_refused_at_once(
    kind: type[Client | AsyncClient], wrong: dict[str, Any], words: str, first_stage: bool
) -> None:
    """First-stage order would hide it for ever; and a key is not shown."""
    with pytest.raises(InputError, match=words) as caught:
        kind(**{"url": "http://localhost:8000", "first_stage": first_stage, **wrong})
    assert "secret" not in str(caught.value)


def test_the_names_of_columns_are_no_documents(url: str) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "price": [1.5, np.nan]})
    with Client(url) as client:
        with pytest.raises(TypeError, match="documents is a DataFrame; give a list of its rows"):
            client.rerank("mug", frame)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="events is a DataFrame"):
            client.send_events(frame)  # type: ignore[arg-type]
        client.rerank("mug", frame.to_dict("records"))
        assert Handler.requests[-1]["documents"] == [{"id": "a", "price": 1.5}, {"id": "b", "price": None}]
        client.rerank("mug", frame["id"])  # type: ignore[arg-type]
        assert Handler.requests[-1]["documents"] == ["a", "b"]


def test_first_stage_order_returns_documents_as_the_service_does() -> None:
    with Client("http://127.0.0.1:1", first_stage=True, retries=0) as client:
        reply = client.rerank("mug", ["a", {"id": "b", "title": "Bamboo"}], return_documents=True)
    assert [one.document for one in reply.results] == [{"text": "a"}, {"id": "b", "text": "Bamboo", "title": "Bamboo"}]


def many(url: str, requests: Iterable[Any], **settings: Any) -> list[str]:
    """Ids of the replies; and why no more came."""
    found: list[str] = []

    async def run() -> None:
        async with AsyncClient(url) as client:
            async for reply in client.rerank_many(requests, **settings):
                found.append(reply.id)

    try:
        asyncio.run(asyncio.wait_for(run(), 10))
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


def test_many_requests_with_one_that_is_wrong(url: str) -> None:
    def asked(*queries: str) -> list[RerankRequest]:
        return [RerankRequest(query=query, documents=["a"]) for query in queries]

    def broken() -> Iterator[RerankRequest]:
        yield from asked("a", "b")
        raise RuntimeError("the table ended")

    assert many(url, asked("a", "b", "refused", "c")) == ["a", "b", "ServiceError: no key"]
    assert many(url, broken(), at_once=1) == ["a", "RuntimeError: the table ended"]
    assert many(url, [*asked("a"), {"query": "b"}]) == [
        "TypeError: requests has a dict; give RerankRequest(query=…, documents=…)"
    ]
    assert many(url, asked("a"), at_once=0) == ["ValueError: at_once is 0; give 1 or more"]
    assert many(url, asked("half \ud83d", "b")) == ["half \ufffd", "b"]


def test_each_of_many_requests_is_written_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Counted(RerankRequest):
        def model_dump(self, **how: Any) -> dict[str, Any]:
            written.append(f"{self.query} as values")
            return super().model_dump(**how)

        def model_dump_json(self, **how: Any) -> str:
            written.append(self.query)
            return super().model_dump_json(**how)

    monkeypatch.setattr("reshelf.inference.client.replace_half_surrogates", lambda value: pytest.fail("not needed"))
    assert many(url, [Counted(query=query, documents=["a"]) for query in ("a", "b")]) == ["a", "b"]
    assert sorted(written) == ["a", "b"]


def test_a_client_outlives_its_event_loop(url: str) -> None:
    """As where each task of a worker has a loop of its own."""
    client = AsyncClient(url)

    async def ask(query: str) -> str:
        return (await client.rerank(query, ["a"])).id

    assert [asyncio.run(ask(query)) for query in ("a", "b", "c")] == ["a", "b", "c"]
    asyncio.run(client.close())
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(ask("d"))


def test_event_loops_of_two_threads_share_a_client(url: str) -> None:
    """Connections of another loop fail, or wait for ever."""
    client = AsyncClient(url)
    found: list[str] = []

    async def ask(who: int) -> None:
        for n in range(5):
            queries = [f"{who} {n} {k}" for k in range(20)]
            replies = await asyncio.gather(*(client.rerank(query, ["a"]) for query in queries))
            found.extend(query for query, reply in zip(queries, replies, strict=True) if reply.id == query)

    threads = [Thread(target=asyncio.run, args=(ask(who),), daemon=True) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == 200
    asyncio.run(client.close())
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(client.forget("u1"))


def test_a_forked_process_has_connections_of_its_own(url: str) -> None:
    with Client(url) as client:

        def wrong(who: str) -> int:
            """Replies that were the other process's, or none."""
            count = 0
            for n in range(50):
                query = f"{who} {n}"
                try:
                    count += client.rerank(query, ["a"]).id != query
                except ServiceError:
                    count += 1
            return count

        assert wrong("before") == 0
        child = os.fork()
        if not child:
            os._exit(wrong("child"))
        assert wrong("parent") == 0
        assert os.waitpid(child, 0)[1] == 0

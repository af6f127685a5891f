"""The client against a server that is slow, busy, wrong or shared with a fork; the real one is in serving/."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from reshelf.inference.client import AsyncClient, Client, ServiceError
from reshelf.inference.serving.schemas import RerankReply


class Handler(BaseHTTPRequestHandler):
    """Says of a ranking what its query was."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        status, headers, reply = 200, {}, {"id": body["query"], "model": "m", "results": [], "meta": {"engine": "e"}}
        if body["query"] == "busy":
            status, headers = 503, {"Retry-After": "60"}
        elif body["query"] == "silent":
            time.sleep(3)
        elif body["query"] == "refused":
            status, reply = 401, {"message": "no key", "request_id": "r"}
        elif body["query"] == "other":
            reply = {"hello": "world"}
        content = json.dumps(reply).encode()
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
@pytest.mark.parametrize("query", ["busy", "silent", "trickle"])
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
            assert (reply.meta.fallback, [one.index for one in reply.results]) == ("unreached", [0, 1])
    with Client(url, first_stage=True) as client:
        assert client.rerank("mug", ["a"]).meta.fallback is None
        with pytest.raises(ServiceError, match="no key"):
            client.rerank("refused", ["a"])


@pytest.mark.parametrize("documents", ["lamp", b"lamp", {"title": "lamp"}, {"lamp", "mug"}, None, 3])
def test_what_is_no_list_of_documents_is_refused(url: str, documents: Any) -> None:
    with Client(url) as client:
        with pytest.raises(TypeError, match="give a list"):
            client.rerank("mug", documents)
        if not isinstance(documents, set):
            with pytest.raises(TypeError, match="give a list"):
                client.send_events(documents)


def test_numbers_of_numpy_are_numbers(url: str) -> None:
    with Client(url) as client:
        document = {"id": np.int64(3), "price": np.float32(2.5), "title": np.str_("mug")}
        client.rerank(
            "numpy", [document], scores=np.array([1.5], np.float32), features={"f": [np.int8(2)]}, top_n=np.int64(1)
        )
        sent = Handler.requests[-1]
        assert sent["documents"] == [{"id": 3, "price": 2.5, "title": "mug"}]
        assert (sent["scores"], sent["features"], sent["top_n"]) == ([1.5], {"f": [2.0]}, 1)
        with pytest.raises(ValidationError):
            client.rerank("numpy", ["a"], scores=np.array([np.nan]))
        with pytest.raises(TypeError, match="cannot be sent"):
            client.rerank("numpy", [{"title": "a", "seller": object()}])


def test_what_is_not_the_service_is_said_to_be_so(url: str) -> None:
    with Client(url) as client, pytest.raises(ServiceError, match="not this service"):
        client.rerank("other", ["a"])


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

"""Nobody who is silent, slow or many keeps others out: real sockets against the settings that `reshelf serve` uses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from reshelf.errors import InputError
from reshelf.inference.serving.config import LimitsConfig, ServeConfig
from reshelf.inference.serving.run import http_settings
from tests.inference.serving.server import free_port, until

HALF_HEADER = b"POST / HTTP/1.1\r\nHost: x\r\n"
HALF_BODY = HALF_HEADER + b"Content-Length: 100\r\n\r\n{"


LARGE = 8_000_000


async def answer_length(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how long the body was; at /large, at length."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    content = b"x" * LARGE if scope["path"] == "/large" else str(size).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    found = free_port()
    limits = LimitsConfig(connections=20, read_s=1.0)
    server = uvicorn.Server(http_settings(answer_length, ServeConfig(Path("m"), port=found, limits=limits)))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, 20)
    yield found
    server.should_exit = True
    thread.join()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.sendall(sent)
    return made


def closed_after_s(connection: socket.socket) -> float:
    started = time.monotonic()
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


@pytest.mark.parametrize("sent", [b"", b"P", HALF_HEADER, HALF_BODY])
def test_a_request_that_does_not_come_is_not_waited_for(port: int, sent: bytes) -> None:
    assert 0.5 < closed_after_s(connect(port, sent)) < 6


def test_who_sends_a_byte_at_a_time_has_no_more_time(port: int) -> None:
    connection = connect(port, HALF_BODY)
    started = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - started < 8:
            connection.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - started < 6


@pytest.mark.parametrize("sent", [b"", HALF_HEADER, HALF_BODY])
def test_many_who_send_nothing_whole_keep_nobody_out(port: int, sent: bytes) -> None:
    for _ in range(3):
        held = [connect(port, sent) for _ in range(60)]
        reply = httpx.post(f"http://127.0.0.1:{port}", content=b"x" * 200_000, timeout=5)
        assert reply.text == "200000"
        for one in held:
            one.close()


def test_a_connection_is_kept_between_requests_longer_than_a_request_may_take(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.post("/", content=b"abc").text == "3"
        stream = client.post("/", content=b"abc").extensions["network_stream"]
        first = stream.get_extra_info("client_addr")
        time.sleep(1.5)
        again = client.post("/", content=b"abc").extensions["network_stream"]
        assert again.get_extra_info("client_addr") == first


@pytest.mark.parametrize("whole", [True, False])
def test_a_header_has_a_size(port: int, whole: bool) -> None:
    connection = connect(port, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n" * whole)
    connection.settimeout(5)
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"http://127.0.0.1:{port}", headers={"A": "a" * 10_000}).status_code == 200


def test_requests_that_are_sent_together_are_answered_in_turn(port: int) -> None:
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    connection = connect(port, one * 5)
    said = b""
    while said.count(b"HTTP/1.1 200") < 5:
        said += connection.recv(4096)
    assert said.count(b"\r\n\r\n3") == 5


@pytest.mark.parametrize(("name", "value"), [("candidates", 10_001), ("history", 10_001), ("read_s", 0)])
def test_limits_that_no_request_could_meet_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"limits.{name} is {value}; "):
        LimitsConfig(**{name: value})


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_a_request_that_offers_another_protocol_is_one_of_this(port: int, offer: bytes, pieces: int) -> None:
    """Java's HttpClient offers HTTP/2 with its first request, until it is accepted; who need not, reads the request."""
    header = b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 5\r\nHost: x\r\n"
    header += b"HTTP2-Settings: AAEA\r\nUpgrade: %s\r\nUser-Agent: Java-http-client/17\r\n\r\n" % offer
    chunked = header.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    sent = (header + b"12345") + (chunked + b"3\r\n123\r\n0\r\n\r\n") + b"CONNECT / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"
    connection = connect(port)
    for start in range(0, len(sent), size := -(-len(sent) // pieces)):
        connection.sendall(sent[start : start + size])
    replies = b""
    while replies.count(b"HTTP/1.1 200") < 3 or not replies.endswith(b"\r\n\r\n0"):
        received = connection.recv(4096)
        assert received
        replies += received
    assert [part.rpartition(b"\r\n\r\n")[2] for part in replies.split(b"HTTP/1.1 ")[1:]] == [b"5", b"3", b"0"]


def test_many_offers_at_once_are_answered(port: int) -> None:
    many = 1500
    connection = connect(port, b"GET / HTTP/1.1\r\nConnection:upgrade\r\nUpgrade:a\r\n\r\n" * many)
    replies = b""
    while replies.count(b"HTTP/1.1 200") < many:
        received = connection.recv(65_536)
        assert received
        replies += received


def test_who_does_not_take_a_reply_is_not_kept(port: int) -> None:
    sent = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    slow = connect(port, sent * 2)
    time.sleep(2.5)
    with contextlib.suppress(ConnectionResetError):
        read = 0
        while received := slow.recv(65_536):
            read += len(received)
        assert read < LARGE, "the rest was thrown away"
    quick = connect(port, sent)
    read = 0
    while read < LARGE:
        read += len(quick.recv(65_536))
    quick.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(1.5)
    assert quick.recv(4096).startswith(b"HTTP/1.1 200"), "who took it is"

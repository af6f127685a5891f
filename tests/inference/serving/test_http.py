"""What HTTP has beside a POST of plain JSON: other methods, encodings, and bodies announced before they are sent."""

from __future__ import annotations

import gzip
import socket

import httpx
import pytest

from tests.inference.serving.server import Server


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/ui", "/docs", "/v1/users/u1/export"])
def test_who_looks_without_a_body_sees_what_the_reply_would_be(server: Server, path: str) -> None:
    looked, read = server.http.head(path), server.http.get(path)
    assert (looked.status_code, looked.content) == (200, b"")
    assert looked.headers["Content-Type"] == read.headers["Content-Type"]
    assert server.http.head("/v1/rerank").status_code == 405
    assert server.http.get("/health").json() == {"status": "ok"}, "on the same connection"


@pytest.mark.parametrize("coding", ["gzip", "br", "x" * 1000])
def test_a_body_in_a_coding_that_is_not_read_is_refused_by_name(server: Server, coding: str) -> None:
    content = gzip.compress(b'{"documents": ["a"]}')
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    reply = server.http.post("/v1/rerank", content=content, headers=headers)
    assert reply.status_code == 415
    assert reply.json()["message"].startswith(f"Content-Encoding {coding[:20]}:")
    headers["Content-Encoding"] = "Identity"
    assert server.http.post("/v1/rerank", content=b'{"documents": ["a"]}', headers=headers).status_code == 200


def test_nobody_is_asked_to_send_a_body_that_is_too_large(server: Server) -> None:
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        header = b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(header + b"Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_the_first_page_is_the_demo_page(server: Server) -> None:
    assert server.http.get("/", follow_redirects=False).headers["Location"] == "ui"

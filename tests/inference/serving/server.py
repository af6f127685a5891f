"""A real server for tests: `reshelf serve` as its own process on a free port."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx


class Server:
    """A running server."""

    running: ClassVar[set[Server]] = set()
    """Those of this test session; `stop_after` ends what a failed test left."""

    def __init__(self, log: Path, *flags: Any, wait: bool = True) -> None:
        self.log = log
        self.certificate = flags[flags.index("--tls_cert") + 1] if "--tls_cert" in flags else None
        with log.open("wb") as stderr:
            command = [sys.executable, "-m", "reshelf.cli", "serve", *map(str, flags), "--port", "0"]
            self.process = subprocess.Popen(command, stderr=stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
        Server.running.add(self)
        if wait:
            self.wait_started()

    def wait_started(self) -> None:
        until(lambda: self._urls() or self.process.poll() is not None, 300)
        assert self._urls(), self.said()
        self.url = self._urls()[0]
        verify = True if self.certificate is None else ssl.create_default_context(cafile=self.certificate)
        if self.url.startswith("unix:"):
            transport = httpx.HTTPTransport(uds=self.url.removeprefix("unix:"))
            self.http = httpx.Client(base_url="http://localhost", timeout=60, transport=transport)
        else:
            self.http = httpx.Client(base_url=self.url, timeout=60, verify=verify)

    def _urls(self) -> list[str]:
        return [line["url"] for line in self.lines() if line["message"] == "serving"]

    def said(self) -> str:
        return self.log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Those written so far, as dicts: another thread of the server writes them, some time after its reply."""
        whole = self.said().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def audits(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["message"] == "audit"]

    def engine_pid(self) -> int:
        return self.engine_pids()[0]

    def engine_pids(self) -> list[int]:
        """Engine processes are the server's children that run `inference.engines.process`."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "inference.engines.process"],
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(pid) for pid in found.stdout.split()]

    def rerank(self, **body: Any) -> httpx.Response:
        """The tests' model reads first-stage scores, which few of these requests carry."""
        return self.http.post("/v1/rerank", json={"deadline_ms": 30_000, "impute": True} | body)

    def close(self) -> int:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Without a word; its engines see that nobody is there."""
        self.process.kill()
        self.process.wait()
        Server.running.discard(self)


@contextmanager
def stop_after() -> Iterator[None]:
    """No server that is started within is left, whatever happens."""
    before = set(Server.running)
    try:
        yield
    finally:
        for server in Server.running - before:
            server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.05)


def make_certificate(path: Path, *, with_key: bool = True) -> Path:
    """A certificate of this machine that signs itself."""
    key = path if with_key else path.with_suffix(".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key,
         "-out", path],
        capture_output=True, check=True,
    )  # fmt: skip
    return path

"""What the server stands on breaks: Redis dies, the disk is full, the clock jumps. No acknowledged event is lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reshelf.inference.client import Client, ServiceError
from reshelf.inference.serving.schemas import SentEvent
from tests.inference.serving.server import Server, free_port, until
from tests.inference.serving.test_tenants import make_key

DOCUMENTS = [f"p{n}" for n in range(10)]
_FAKETIME = [Path(f"/usr/lib/{kind}/faketime/libfaketime.so.1") for kind in ("x86_64-linux-gnu", "aarch64-linux-gnu")]


def send(client: Client, n: int) -> bool:
    """Whether the event was acknowledged; the same event may be sent again."""
    try:
        client.send_events([SentEvent(user_id="u", kind="click", item_id=f"p{n % 60}", event_id=str(n))])
    except ServiceError as error:
        if error.status != 503:
            raise
        return False
    return True


def events(server: Server) -> int:
    """How many events the shopper's ranking knows of."""
    meta = server.rerank(query="coat", documents=DOCUMENTS, user_id="u").json()["meta"]
    assert "fallback" not in meta
    return -1 if meta["history"].get("unavailable") else int(meta["history"]["events"])


def test_redis_is_killed_under_load_and_comes_back(serve: Any, tmp_path: Path, certificate: Path) -> None:
    """Over TLS, and by a Redis with a password: both break and come back with all else."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = ["redis-server", "--port", port, "--dir", tmp_path, "--appendonly", "yes", "--appendfsync", "always"]
    password = tmp_path / "password"

    def start(secret: str) -> subprocess.Popen[bytes]:
        password.write_text(f"{secret}\n")
        process = subprocess.Popen([*map(str, command), "--requirepass", secret], stdout=subprocess.DEVNULL)
        until(lambda: subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).returncode == 0, 20)
        return process

    redis = start("first/secret")
    server: Server = serve(
        tmp_path, "--history", f"redis://127.0.0.1:{port}/0", "--redis_password_file", password,
        "--tls_cert", certificate,
    )  # fmt: skip
    assert server.url.startswith("https://")
    acknowledged: set[int] = set()
    refused: list[int] = []
    rankings: list[int] = []
    stop = threading.Event()

    def behave() -> None:
        with Client(server.url, retries=0, verify=certificate) as client:
            n = 0
            while not stop.is_set():
                if send(client, n):
                    acknowledged.add(n)
                else:
                    refused.append(n)
                n += 1

    def look() -> None:
        while not stop.is_set():
            rankings.append(events(server))

    threads = [threading.Thread(target=behave), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) > 20 and len(rankings) > 3, 60)
    redis.send_signal(signal.SIGKILL)
    redis.wait()
    until(lambda: len(refused) > 2 and -1 in rankings, 30)
    redis = start("second/secret")
    before = len(acknowledged)
    until(lambda: len(acknowledged) > before + 20 and rankings[-1] > 0, 60)
    stop.set()
    for thread in threads:
        thread.join()
    # One that was not acknowledged may have arrived all the same, for the reply was lost, not the event.
    assert len(acknowledged) <= events(server) <= len(acknowledged) + len(refused)
    with Client(server.url, verify=certificate) as client:
        for n in acknowledged:
            assert client.send_events([SentEvent(user_id="u", kind="click", item_id="p1", event_id=str(n))]) == 0
    with Client(server.url, retries=0) as client, pytest.raises(ServiceError, match="certificate"):
        client.send_events([SentEvent(user_id="u", kind="click", item_id="p1")])
    assert server.close() == 0
    assert "secret" not in server.said()
    redis.terminate()
    redis.wait()


def test_a_full_disk_costs_new_events_only(serve: Any, tmp_path: Path) -> None:
    """Over a Unix socket. What was acknowledged is on the disk, also when the server is killed."""
    server: Server = serve(tmp_path, "--uds", tmp_path / "socket")
    assert server.url == f"unix:{tmp_path / 'socket'}"
    with Client(server.url, retries=0) as client:
        assert all(send(client, n) for n in range(10))
        size = (tmp_path / "history.sqlite-wal").stat().st_size
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        # No file of the server's may grow any more: its writes fail as on a full disk.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))
        refused = [n for n in range(10, 40) if not send(client, n)]
        assert len(refused) > 20
        assert events(server) == 40 - len(refused)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert all(send(client, n) for n in refused)
        assert events(server) == 40
    server.process.kill()
    server.process.wait()
    again: Server = serve(tmp_path, "--uds", tmp_path / "socket")
    assert events(again) == 40
    assert again.close() == 0
    assert not (tmp_path / "socket").exists()


def test_the_clock_jumps(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = next((path for path in _FAKETIME if path.exists()), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    for name, value in (
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock),
        ("FAKETIME_NO_CACHE", 1),
        ("FAKETIME_DONT_FAKE_MONOTONIC", 1),
    ):
        monkeypatch.setenv(name, str(value))
    file = tmp_path / "tenants.yaml"
    key = make_key(file, capsys, "a", "--rate", "6/second")
    server: Server = serve(tmp_path, "--tenants", file)
    monkeypatch.undo()
    with Client(server.url, key, retries=0) as client:
        n = 0
        for jump in ("+0", "+2d", "-2d", "+1d", "+0"):
            partial = clock.with_suffix(".new")
            partial.write_text(jump)
            os.replace(partial, clock)
            time.sleep(1.1)
            # Under the tenant's rate in truth, whatever the wall clock says; and the latest click is the last one.
            for _ in range(3):
                assert send(client, n)
                n += 1
            reply = client.rerank("coat", DOCUMENTS, user_id="u", impute=True, deadline_ms=30_000)
            assert reply.meta.fallback is None
            assert reply.meta.history["events"] == n
    assert server.close() == 0
    times = {line["time"][:10] for line in server.lines()}
    assert len(times) >= 3, "the clock did not jump"

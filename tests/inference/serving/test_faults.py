"""Things break: every request is answered, the shop's own order at worst, and the service recovers by itself."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from reshelf.inference.client import Client, ServiceError
from reshelf.inference.serving.schemas import SentEvent
from tests.inference.serving.server import Server, stop_after, until

pytestmark = pytest.mark.slow
DOCUMENTS = [f"p{n}" for n in range(30)]


@pytest.fixture(scope="module")
def started(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server, which recovers from every test; the last one ends it."""
    with stop_after():
        yield serve(tmp_path_factory.mktemp("faults"), "--stuck_s", 5, "--drain_s", 1)


@pytest.fixture
def server(started: Server) -> Server:
    """As it is without faults."""
    until(lambda: started.http.get("/ready").status_code == 200, 60)
    return started


def engine_starts(server: Server) -> float:
    found = re.search(r"^reshelf_engine_starts (\S+)$", server.http.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_the_engine_is_killed_under_load(server: Server) -> None:
    starts = engine_starts(server)
    right = [one["index"] for one in server.rerank(query="coat", documents=DOCUMENTS).json()["results"]]
    said: list[dict[str, Any]] = []
    stop = threading.Event()

    def load() -> None:
        with Client(server.url, retries=0, timeout_s=40) as client:
            while not stop.is_set():
                said.append(client.rerank("coat", DOCUMENTS, impute=True, deadline_ms=30_000).model_dump())
                time.sleep(0.05)  # without an engine a reply takes no time, and the next engine would wait for a core

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(said) > 8, 60)
    os.kill(server.engine_pid(), signal.SIGKILL)
    until(lambda: said[-1]["meta"]["fallback"] == "engine_down", 30)
    assert server.http.get("/ready").status_code == 503
    assert server.http.get("/health").status_code == 200
    until(lambda: server.http.get("/ready").status_code == 200, 60)
    until(lambda: said[-1]["meta"]["fallback"] is None, 30)
    stop.set()
    for thread in threads:
        thread.join()
    for reply in said:
        order = [one["index"] for one in reply["results"]]
        assert order == (right if reply["meta"]["fallback"] is None else list(range(30)))
    assert 'reshelf_fallbacks_total{reason="engine_down"}' in server.http.get("/metrics").text
    assert engine_starts(server) == starts + 1


def test_an_engine_that_is_stuck_is_started_again(server: Server) -> None:
    first = server.engine_pid()
    os.kill(first, signal.SIGSTOP)
    assert server.rerank(query="coat", documents=DOCUMENTS, deadline_ms=200).json()["meta"]["fallback"] == "deadline"
    until(lambda: server.http.get("/ready").status_code == 503, 20)
    until(lambda: server.http.get("/ready").status_code == 200, 60)
    assert server.engine_pid() != first
    assert "fallback" not in server.rerank(query="coat", documents=DOCUMENTS).json()["meta"]


def test_a_locked_store_costs_the_history_only_and_no_event_is_lost(server: Server) -> None:
    with Client(server.url, retries=0) as client:
        client.send_events([SentEvent(user_id="u", kind="click", item_id="p5", event_id="1")])
        lock = sqlite3.connect(server.log.parent / "history.sqlite", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServiceError) as refused:
            client.send_events([SentEvent(user_id="u", kind="click", item_id="p6", event_id="2")])
        assert refused.value.status == 503
        assert server.rerank(query="coat", documents=DOCUMENTS, user_id="u").status_code == 200
        lock.execute("ROLLBACK")
        lock.close()
        client.send_events([SentEvent(user_id="u", kind="click", item_id="p6", event_id="2")])
    meta = server.rerank(query="coat", documents=DOCUMENTS, user_id="u").json()["meta"]
    assert meta["history"]["events"] == 2


def test_lists_that_would_be_reached_too_late_are_not_made_to_wait(server: Server) -> None:
    for _ in range(20):  # the server learns the engine's pace
        assert "fallback" not in server.rerank(query="coat", documents=DOCUMENTS).json()["meta"]
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(60) as pool:
            asked = [pool.submit(server.rerank, query="coat", documents=DOCUMENTS, deadline_ms=150) for _ in range(60)]
            replies = [one.result().json() for one in asked]
    finally:
        os.kill(engine, signal.SIGCONT)
    reasons = Counter(one["meta"].get("fallback") for one in replies)
    assert set(reasons) == {"deadline", "queue_full"}
    assert all([r["index"] for r in one["results"]] == list(range(30)) for one in replies)
    until(lambda: "fallback" not in server.rerank(query="coat", documents=DOCUMENTS).json()["meta"], 30)


def test_an_engine_that_still_loads_ends_with_its_server(serve: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not start: not ready after"):
        serve(tmp_path, "--start_s", 0.1)
    server: Server = serve(tmp_path, wait=False)
    until(lambda: psutil.Process(server.process.pid).children(), 60)
    (engine,) = psutil.Process(server.process.pid).children()
    time.sleep(0.5)
    server.kill()
    engine.wait(20)
    assert "serving" not in server.said()


def test_what_was_accepted_is_finished_at_the_end(server: Server) -> None:
    server.process.send_signal(signal.SIGHUP)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(server.rerank(query="coat", documents=DOCUMENTS).status_code))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    until(lambda: "reshelf_queue_depth 0.0" not in server.http.get("/metrics").text, 20)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.http.get("/ready").json().get("draining"), 5)
    assert server.http.get("/ready").status_code == 503
    assert server.rerank(query="coat", documents=DOCUMENTS).status_code == 200
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    assert server.process.wait(20) == 0

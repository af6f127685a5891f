"""No tenant keeps another one out: of the house, of the engine, or of its own rates."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.inference.client import Client, ServiceError
from reshelf.inference.serving.admission import Admission
from reshelf.inference.serving.engine.fair_queue import FairQueue, FairThread
from reshelf.inference.serving.history import open_store
from reshelf.inference.serving.history_redis import RedisHistory
from reshelf.inference.serving.rates import Rate, Rates, duration_s
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.tenants import Tenant
from tests.inference.serving.server import Server, stop_after, until
from tests.inference.serving.test_tenants import make_key


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), max_size=60))
def test_entries_are_taken_once_in_each_tenants_order_and_evenly(entries: list[tuple[str, int]]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for n, (tenant, cost) in enumerate(entries):
        queue.put(tenant, (tenant, n), cost)
    taken = []
    spent = dict.fromkeys("abc", 0)
    left = {tenant: sum(who == tenant for who, _ in entries) for tenant in "abc"}
    while (entry := queue.take()) is not None:
        tenant, n = entry
        taken.append(entry)
        # While others wait, none is ahead of them by more than one entry.
        assert all(spent[tenant] <= spent[other] for other in "abc" if left[other])
        spent[tenant] += entries[n][1]
        left[tenant] -= 1
    assert sorted(taken, key=lambda one: one[1]) == [(who, n) for n, (who, _) in enumerate(entries)]
    for tenant in "abc":
        numbers = [n for who, n in taken if who == tenant]
        assert numbers == sorted(numbers)


def test_who_comes_after_a_pause_has_not_saved_up_time() -> None:
    queue: FairQueue[str] = FairQueue()
    for n in range(10):
        queue.put("a", f"a{n}", 1.0)
    assert [queue.take() for _ in range(6)] == [f"a{n}" for n in range(6)]
    for n in range(4):
        queue.put("b", f"b{n}", 1.0)
    assert "".join(str(queue.take()) for _ in range(6)) == "b0a6b1a7b2a8"


def test_a_thread_works_in_turns_and_leaves_out_what_nobody_waits_for() -> None:
    async def work() -> None:
        thread, done, go = FairThread("test"), [], threading.Event()
        first = asyncio.create_task(thread.run("a", 1, go.wait))
        waiting = [asyncio.create_task(thread.run("a", 1, done.append, n)) for n in range(3)]
        other = asyncio.create_task(thread.run("b", 1, done.append, "b"))
        failing = asyncio.create_task(thread.run("c", 1, json.loads, "{"))
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        go.set()
        await asyncio.gather(first, *waiting, other, failing, return_exceptions=True)
        assert done in (["b", 1, 2], [1, "b", 2])
        with pytest.raises(json.JSONDecodeError):
            failing.result()
        thread.shutdown()

    asyncio.run(work())


def test_who_fills_the_house_keeps_nobody_out() -> None:
    admission = Admission(8, Rates())

    def places(tenant: Tenant) -> int:
        """How often the tenant is let in."""
        with ExitStack() as entered:
            for count in range(10):
                try:
                    entered.enter_context(admission.place(tenant))
                except RefusedError:
                    held.push(entered.pop_all())
                    return count
        raise AssertionError("the house is never full")

    with ExitStack() as held:
        assert [places(Tenant(name=name, keys=[])) for name in "abc"] == [8, 4, 2]
        assert places(Tenant(name="d", keys=[], in_flight=1)) == 1
    with ExitStack() as held:
        assert places(Tenant(name="c", keys=[])) == 8, "all left"


@pytest.fixture(params=["here", "redis"])
def new_rates(request: pytest.FixtureRequest) -> Callable[[], Rates]:
    """As servers have them: two over the same Redis count together."""
    if request.param == "here":
        return Rates
    port = request.getfixturevalue("redis_port")
    return lambda: Rates(RedisHistory(f"redis://127.0.0.1:{port}/1", kept=5).evaluate)


def test_a_bucket_holds_what_may_be_done_at_once_and_is_refilled(new_rates: Callable[[], Rates]) -> None:
    async def take() -> None:
        rates, name = new_rates(), f"shop{time.monotonic_ns()}"
        rate = Rate.parse("20/second")
        assert [await rates.wait_s(name, rate) for _ in range(20)] == [0.0] * 20
        wait = await rates.wait_s(name, rate, 2)
        assert 0 < wait <= 0.1
        assert await rates.wait_s(f"{name}other", rate, 500) == 0.0, "what a bucket never holds costs a full one"
        assert await rates.wait_s(f"{name}other", rate) > 0
        await asyncio.sleep(wait + 0.01)
        assert await rates.wait_s(name, rate, 2) == 0.0

    asyncio.run(take())


def test_servers_of_one_redis_count_together_and_each_for_itself_without_it(redis_port: int) -> None:
    async def take() -> None:
        store = await open_store(f"redis://127.0.0.1:{redis_port}/1", 5)
        assert isinstance(store, RedisHistory)
        name, rate = f"shop{time.monotonic_ns()}", Rate.parse("2/hour")
        one, another = Rates(store.evaluate), Rates(store.evaluate)
        waits = [await rates.wait_s(name, rate) for rates in (one, another, one)]
        assert waits[:2] == [0.0, 0.0]
        assert 1700 < waits[2] <= 1800
        away = await open_store("redis://127.0.0.1:9/0", 5)
        assert isinstance(away, RedisHistory)
        alone = Rates(away.evaluate)
        assert [await alone.wait_s(name, rate) > 0 for _ in range(3)] == [False, False, True]
        await store.close()

    asyncio.run(take())


def test_nobody_waits_for_the_difference_of_two_clocks(redis_port: int) -> None:
    """A replica whose clock is an hour behind becomes the primary."""

    async def take() -> None:
        store = await open_store(f"redis://127.0.0.1:{redis_port}/1", 5)
        assert isinstance(store, RedisHistory)
        name = f"shop{time.monotonic_ns()}"
        ahead = "redis.call('SET', KEYS[1], redis.call('TIME')[1] + 3600, 'PX', 3600000)"
        await store.evaluate(ahead, [f"reshelf:rate:{{{name}}}"], [])
        assert 0.4 < await Rates(store.evaluate).wait_s(name, Rate.parse("2/second")) <= 0.5
        await store.close()

    asyncio.run(take())


@pytest.mark.parametrize("text", ["often", "0/second", "-1/second", "5/week", "1.5/second", " 5/second", "5/second\n"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 50/second"):
        Rate.parse(text)
    with pytest.raises(ValueError, match="such as 400d"):
        duration_s(text)


def ranked(client: Client, documents: list[str]) -> str | None:
    """Why a list was not ranked; None where it was."""
    return client.rerank("coat", documents, impute=True, deadline_ms=8000).meta.fallback


def test_a_tenant_within_its_rate_is_ranked_while_another_one_floods(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tenants.yaml"
    hostile, honest = (make_key(file, capsys, name) for name in ("hostile", "honest"))
    limited = make_key(file, capsys, "limited", "--candidates", "100/hour", "--in_flight", "1")
    server: Server = serve(tmp_path, "--tenants", file, "--limits.requests", 8, "--limits.waiting", 4)
    stop, flooded = threading.Event(), []

    def flood(number: int) -> None:
        documents = [f"soft red coat {number} {n}" for n in range(100)]
        while not stop.is_set():
            try:
                with Client(server.url, hostile, retries=0, timeout_s=30) as client:
                    for _ in range(50):
                        flooded.append(ranked(client, [f"{one} {time.monotonic_ns()}" for one in documents]))
            except ServiceError as error:
                flooded.append(str(error.status))
                time.sleep(0.05)

    threads = [threading.Thread(target=flood, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: {"429"} & set(flooded) and (None in flooded or "queue_full" in flooded), 60)
        with Client(server.url, honest, retries=0, timeout_s=30) as client:
            assert [ranked(client, [f"coat {n}", "mug", "lamp"]) for n in range(8)] == [None] * 8
        with Client(server.url, limited, retries=0) as client:
            client.rerank("coat", [f"coat {n}" for n in range(90)])
            with pytest.raises(ServiceError, match="more candidates than 100/hour") as refused:
                client.rerank("coat", [f"coat {n}" for n in range(20)])
            assert refused.value.status == 429
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert server.close() == 0


@pytest.fixture(scope="module")
def small(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With places for three requests."""
    with stop_after():
        running: Server = serve(tmp_path_factory.mktemp("small"), "--limits.requests", 3)
        yield running
        assert running.close() == 0


def test_above_the_configured_load_it_says_when_to_come_again(small: Server) -> None:
    server, documents = small, ["mug", "coat"]
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(3) as pool:
            accepted = [pool.submit(server.rerank, query="coat", documents=documents) for _ in range(3)]
            until(lambda: "reshelf_queue_depth 3.0" in server.http.get("/metrics").text, 20)
            for _ in range(3):
                refused = server.rerank(query="coat", documents=documents)
                assert refused.status_code == 429
                assert int(refused.headers["Retry-After"]) >= 1
            os.kill(engine, signal.SIGCONT)
            replies = [one.result() for one in accepted]
    finally:
        os.kill(engine, signal.SIGCONT)
    for reply in [*replies, server.rerank(query="coat", documents=documents)]:
        assert reply.status_code == 200
        assert "fallback" not in reply.json()["meta"]


def test_who_hangs_up_frees_the_place(small: Server) -> None:
    server = small
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    try:
        body = json.dumps({"query": "coat", "documents": ["red", "blue"], "impute": True, "deadline_ms": 30_000})
        header = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        sent = f"POST /v1/rerank HTTP/1.1\r\n{header}\r\n\r\n{body}".encode()
        address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        for _ in range(4):  # more than there are places, lists in flight and lists waiting
            held = [socket.create_connection(address) for _ in range(3)]
            for one in held:
                one.sendall(sent)
            time.sleep(0.3)  # all are in, before a request of ours takes a place for a moment
            until(lambda: server.rerank(query="coat", documents=["mug"], deadline_ms=1).status_code == 429, 10)
            for one in held:
                one.close()
            until(lambda: server.rerank(query="coat", documents=["mug"], deadline_ms=1).status_code == 200, 5)
    finally:
        os.kill(engine, signal.SIGCONT)
    text = server.http.get("/metrics").text
    assert 'reshelf_requests_total{route="/v1/rerank",status="499"} 12.0' in text
    assert 'status="500"' not in text
    assert not any(line["level"] == "error" for line in server.lines())
    assert "fallback" not in server.rerank(query="coat", documents=["mug", "coat"]).json()["meta"]
    reply = server.rerank(query="coat", documents=["mug"], deadline_ms=1e6)
    assert (reply.status_code, reply.json()["field"]) == (422, "deadline_ms")

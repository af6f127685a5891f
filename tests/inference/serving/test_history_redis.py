"""A Redis that is busy or fails over costs a request its timeout, and no event counts twice; in a Redis Cluster too."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest
import redis
import redis.asyncio

from reshelf.inference.serving.history import StoreError, open_store
from reshelf.inference.serving.schemas import SentEvent

BUSY_S = 1.5
BUSY = """
local start, now = redis.call('TIME'), nil
repeat now = redis.call('TIME') until now[1] - start[1] + (now[2] - start[2]) / 1e6 > tonumber(ARGV[1])
"""


@pytest.fixture(params=["alone", "cluster"])
def nodes(request: pytest.FixtureRequest) -> list[int]:
    """Ports of a Redis, or of all nodes of a cluster."""
    if request.param == "alone":
        return [request.getfixturevalue("redis_port")]
    first = urlsplit(request.getfixturevalue("cluster")).port
    return sorted(node.port for node in redis.RedisCluster(host="127.0.0.1", port=first).get_nodes())


def test_an_event_is_not_sent_again_to_a_busy_redis(nodes: list[int]) -> None:
    def busy(port: int) -> None:
        redis.Redis(port=port, socket_timeout=20).eval(BUSY, 0, BUSY_S)

    async def work() -> tuple[float, int]:
        store = await open_store(f"redis://127.0.0.1:{nodes[0]}/0", 5)
        await store.forget("busy", "busy")
        await store.append("busy", [SentEvent(user_id="busy", kind="click", item_id="p1")])  # connected, as a server is
        at_work = [asyncio.create_task(asyncio.to_thread(busy, port)) for port in nodes]
        await asyncio.sleep(0.4)
        start = time.monotonic()
        with pytest.raises(StoreError):
            await store.append("busy", [SentEvent(user_id="busy", kind="click", item_id="p2")])
        took = time.monotonic() - start
        await asyncio.gather(*at_work)
        await asyncio.sleep(0.3)
        kept = len((await store.read("busy", "busy")).events)
        await store.close()
        return took, kept

    took, kept = asyncio.run(work())
    assert took < 0.9, "one attempt"
    assert kept == 2, "Redis had the second one, and has it once"


def test_a_node_that_does_not_answer_holds_up_no_others(cluster: str) -> None:
    """Where nodes are is asked again after every error; what commands there are, a reply of 200 kB, is not."""
    first = urlsplit(cluster).port
    nodes = [redis.Redis(port=node.port) for node in redis.RedisCluster(host="127.0.0.1", port=first).get_nodes()]

    def asked(command: str) -> int:
        return sum(node.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0) for node in nodes)

    async def work() -> None:
        store = await open_store(cluster, 5)
        await store.append("fails over", [SentEvent(user_id="u", kind="click", item_id="p1")])
        commands, places = asked("command"), asked("cluster|slots")
        for _ in range(3):
            for node in nodes:
                node.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(StoreError):
                await store.read("fails over", "u")
            assert len((await store.read("fails over", "u")).events) == 1
        assert asked("cluster|slots") == places + 3
        assert asked("command") == commands
        await store.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
        AttributeError("'NoneType' object has no attribute 'write'"),
    ],
)
def test_what_redis_py_says_of_a_connection_that_a_failover_closed_is_a_store_error(
    redis_port: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: object) -> None:
        raise error

    async def work() -> None:
        store = await open_store(f"redis://127.0.0.1:{redis_port}/0", 5)
        await store.read("fails over", "u")
        monkeypatch.setattr(redis.asyncio.Redis, "lrange", closed)
        with pytest.raises(StoreError, match=r"closed|write"):
            await store.read("fails over", "u")
        await store.close()

    asyncio.run(work())

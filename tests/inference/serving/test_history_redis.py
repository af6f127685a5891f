"""A Redis that is busy costs a request its timeout, and no event is counted twice; in a Redis Cluster too."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest
import redis

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
        await store.forget("t", "busy")
        await store.append("t", [SentEvent(user_id="busy", kind="click", item_id="p1")])  # connected, as a server is
        at_work = [asyncio.create_task(asyncio.to_thread(busy, port)) for port in nodes]
        await asyncio.sleep(0.4)
        start = time.monotonic()
        with pytest.raises(StoreError):
            await store.append("t", [SentEvent(user_id="busy", kind="click", item_id="p2")])
        took = time.monotonic() - start
        await asyncio.gather(*at_work)
        await asyncio.sleep(0.3)
        kept = len((await store.read("t", "busy")).events)
        await store.close()
        return took, kept

    took, kept = asyncio.run(work())
    assert took < 0.9, "one attempt"
    assert kept == 2, "Redis had the second one, and has it once"

"""Shoppers' events in Redis, for several servers; in a Redis Cluster too.

    store = RedisHistory("redis://localhost:6379/0", kept=500)

How safe a stored event is, is Redis's `appendfsync` to say: `always` loses none.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from reshelf.errors import InputError
from reshelf.inference.serving.history import (
    FORGOTTEN_S,
    REMEMBERED_S,
    History,
    StoreError,
    digest,
    read_events,
    stored,
)
from reshelf.inference.serving.schemas import SentEvent

_TIMEOUT_S = 0.25
# Scripts are one round trip, all or nothing. Their keys are one shopper's: events, ids of events, when forgotten.
_APPEND = """
local kept, remembered_s, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local forgotten = tonumber(redis.call('GET', KEYS[3]) or '')
local new = 0
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remembered_s)
for i = 4, #ARGV, 3 do
    local before = forgotten and tonumber(ARGV[i + 1]) <= forgotten
    if not before and (ARGV[i] == '' or redis.call('ZADD', KEYS[2], 'NX', now, ARGV[i]) == 1) then
        redis.call('RPUSH', KEYS[1], ARGV[i + 2])
        new = new + 1
    end
end
redis.call('LTRIM', KEYS[1], -kept, -1)
redis.call('EXPIRE', KEYS[2], remembered_s)
return new
"""
_FORGET = """
local count = redis.call('LLEN', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
return count
"""
# An event's own time is the first in its JSON; all are in UTC, so that texts are in the order of times.
_PURGE = """
local gone = 0
for _, body in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    local when = string.match(body, '"time":"([^"]+)"')
    if when and when < ARGV[1] then gone = gone + redis.call('LREM', KEYS[1], 1, body) end
end
return gone
"""


class RedisHistory:
    """Three keys per shopper: a list of events, a sorted set of digests of event ids by time, and when the shopper was
    forgotten. They carry a digest of the shopper's id, not the id, and lie on one node of a cluster. What Redis
    appended to its file stays there until it next rewrites it (`BGREWRITEAOF`).

    Args:
        address: redis://[user:password@]host:port/database
        kept: latest events kept of a shopper.
        keep_s: seconds after which an event is no longer kept; None for ever.

    Raises:
        InputError: redis-py is not installed, or the address is not one.
    """

    def __init__(self, address: str, kept: int, keep_s: float | None = None) -> None:
        try:
            from redis.asyncio import Redis
        except ImportError as error:
            raise InputError("history in Redis needs redis-py; `pip install reshelf[redis]`") from error
        self._address, self._kept, self._keep_s = address, kept, keep_s
        self._settings: dict[str, Any] = {
            "socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, "decode_responses": True,
        }  # fmt: skip
        try:
            self._redis: Any = Redis.from_url(address, **self._settings)
        except ValueError as error:
            raise InputError(f"history {address!r}: {error}; give redis://host:port/database") from error
        self._kind_known = False
        self._finding = asyncio.Lock()

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        by_user: dict[str, list[str | float]] = {}
        for event in events:
            one = stored(event)
            event_id = "" if event.event_id is None else digest(tenant, event.user_id, event.event_id)
            when = 0.0 if one.event.time is None else one.event.time.timestamp()
            by_user.setdefault(event.user_id, []).extend((event_id, when, one.model_dump_json(exclude_none=True)))
        new = 0
        for user_id, entries in by_user.items():
            arguments = [self._kept, int(REMEMBERED_S), time.time(), *entries]
            new += int(await self.evaluate(_APPEND, _keys(tenant, user_id), arguments))
        return new

    async def read(self, tenant: str, user_id: str) -> History:
        events, *_ = _keys(tenant, user_id)
        return read_events(await self._ask(lambda redis: redis.lrange(events, -self._kept, -1)), self._keep_s)

    async def forget(self, tenant: str, user_id: str) -> int:
        return int(await self.evaluate(_FORGET, _keys(tenant, user_id), [time.time(), int(FORGOTTEN_S)]))

    async def purge(self) -> int:
        if self._keep_s is None:
            return 0
        oldest = f"{(datetime.now(UTC) - timedelta(seconds=self._keep_s)).replace(tzinfo=None).isoformat()}Z"

        async def events_keys(redis: Any) -> list[str]:
            return [key async for key in redis.scan_iter(match="reshelf:{*}", count=1000)]

        return sum([int(await self.evaluate(_PURGE, [key], [oldest])) for key in await self._ask(events_keys)])

    async def evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script in Redis returns; all of its keys lie on one node."""
        return await self._ask(lambda redis: redis.eval(script, len(keys), *keys, *arguments))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        from redis.exceptions import RedisClusterException, RedisError

        try:
            if not self._kind_known:
                await self._find_kind()
            return await command(self._redis)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise StoreError(str(error)) from error

    async def _find_kind(self) -> None:
        """One node of a cluster answers for its own shoppers only: then a client that knows all nodes is used."""
        from redis.asyncio import RedisCluster

        async with self._finding:
            if self._kind_known:
                return
            if (await self._redis.info("cluster")).get("cluster_enabled"):
                cluster: Any = RedisCluster.from_url(self._address, **self._settings)
                await cluster.initialize()
                await self._redis.aclose()
                self._redis = cluster
            self._kind_known = True


def _keys(tenant: str, user_id: str) -> tuple[str, str, str]:
    """Of the events, of their ids, and of when the shopper was forgotten."""
    shopper = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode()).hexdigest()
    key = f"reshelf:{{{shopper}}}"  # braces: one shopper's keys lie on one node of a cluster
    return key, f"{key}:event_ids", f"{key}:forgotten"

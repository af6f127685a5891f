"""Shoppers' events in Redis, for several servers.

    store = RedisHistory("redis://localhost:6379/0", kept=500)

How safe a stored event is, is Redis's `appendfsync` to say: `always` loses none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from reshelf.errors import InputError
from reshelf.inference.serving.history import StoredEvent, StoreError, stored
from reshelf.inference.serving.schemas import SentEvent

_TIMEOUT_S = 0.25
_REMEMBERED_S = 86_400
"""An event id is remembered for a day."""
# One round trip, all or nothing: new events only, and no more than are kept. Both keys are the shopper's.
_APPEND = """
local kept, remembered_s, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local new = 0
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remembered_s)
for i = 4, #ARGV, 2 do
    if ARGV[i] == '' or redis.call('ZADD', KEYS[2], 'NX', now, ARGV[i]) == 1 then
        redis.call('RPUSH', KEYS[1], ARGV[i + 1])
        new = new + 1
    end
end
redis.call('LTRIM', KEYS[1], -kept, -1)
redis.call('EXPIRE', KEYS[2], remembered_s)
return new
"""


class RedisHistory:
    """Two keys per shopper, a list of events and a sorted set of event ids by time; both carry a digest of the
    shopper's id, not the id. What Redis appended to its file stays there until it next rewrites it (`BGREWRITEAOF`).

    Args:
        address: redis://[user:password@]host:port/database
        kept: latest events kept of a shopper.

    Raises:
        InputError: redis-py is not installed, or the address is not one.
    """

    def __init__(self, address: str, kept: int) -> None:
        try:
            from redis.asyncio import Redis
        except ImportError as error:
            raise InputError("history in Redis needs redis-py; `pip install reshelf[redis]`") from error
        self._kept = kept
        try:
            self._redis: Any = Redis.from_url(
                address, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, decode_responses=True
            )
        except ValueError as error:
            raise InputError(f"history {address!r}: {error}; give redis://host:port/database") from error
        self._append = self._redis.register_script(_APPEND)

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        by_user: dict[str, list[str]] = {}
        for event in events:
            body = stored(event).model_dump_json(exclude_none=True)
            by_user.setdefault(event.user_id, []).extend((event.event_id or "", body))
        new = 0
        for user_id, pairs in by_user.items():
            script = self._append(keys=_keys(tenant, user_id), args=[self._kept, _REMEMBERED_S, time.time(), *pairs])
            new += int(await self._ask(script))
        return new

    async def read(self, tenant: str, user_id: str) -> list[StoredEvent]:
        bodies = await self._ask(self._redis.lrange(_keys(tenant, user_id)[0], -self._kept, -1))
        return [StoredEvent.model_validate_json(body) for body in bodies]

    async def forget(self, tenant: str, user_id: str) -> int:
        keys = _keys(tenant, user_id)
        async with self._redis.pipeline(transaction=True) as transaction:
            transaction.llen(keys[0])
            transaction.delete(*keys)
            count, _ = await self._ask(transaction.execute())
        return int(count)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, answer: Any) -> Any:
        from redis.exceptions import RedisError

        try:
            return await answer
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(str(error)) from error


def _keys(tenant: str, user_id: str) -> tuple[str, str]:
    """Of the events and of their ids."""
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode()).hexdigest()
    key = f"reshelf:{{{digest}}}"  # braces: one shopper's keys lie on one node of a cluster
    return key, f"{key}:event_ids"

"""Shoppers' events in Redis, for several servers.

    store = RedisHistory("redis://localhost:6379/0", kept=500)

How safe a stored event is, is Redis's `appendfsync` to say: `always` loses none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from reshelf.errors import InputError
from reshelf.inference.serving.history import StoredEvent, StoreError, stored
from reshelf.inference.serving.schemas import SentEvent

_TIMEOUT_S = 0.25
_ONCE_S = 86_400
"""An event id is remembered for a day."""
# One round trip, all or nothing: new events only, and no more than are kept.
_APPEND = """
local new = 0
for i = 1, #ARGV - 2, 2 do
    if ARGV[i] == '' or redis.call('SET', KEYS[1] .. ':once:' .. ARGV[i], 1, 'NX', 'EX', ARGV[#ARGV]) then
        redis.call('RPUSH', KEYS[1], ARGV[i + 1])
        new = new + 1
    end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[#ARGV - 1]), -1)
return new
"""


class RedisHistory:
    """A list per shopper. Keys carry a digest of the shopper's id, not the id.

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
            new += int(await self._ask(self._append(keys=[_key(tenant, user_id)], args=[*pairs, self._kept, _ONCE_S])))
        return new

    async def read(self, tenant: str, user_id: str) -> list[StoredEvent]:
        bodies = await self._ask(self._redis.lrange(_key(tenant, user_id), -self._kept, -1))
        return [StoredEvent.model_validate_json(body) for body in bodies]

    async def forget(self, tenant: str, user_id: str) -> int:
        key = _key(tenant, user_id)
        count = int(await self._ask(self._redis.llen(key)))
        await self._ask(self._redis.delete(key))
        return count

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, answer: Any) -> Any:
        from redis.exceptions import RedisError

        try:
            return await answer
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(str(error)) from error


def _key(tenant: str, user_id: str) -> str:
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode()).hexdigest()
    return f"reshelf:{{{digest}}}"  # braces: one shopper's keys lie on one node of a cluster

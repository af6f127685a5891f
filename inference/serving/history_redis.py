"""Shoppers' events in Redis, for several servers.

    store = RedisHistory("redis://localhost:6379/0", kept=500)

How safe a stored event is, is Redis's `appendfsync` to say: `always` loses none.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Any

from reshelf.data.schema import Event
from reshelf.data.signals.kept import NewEvents
from reshelf.errors import InputError
from reshelf.inference.serving.history import COUNTED_HOURS, StoredEvent, StoreError, hour_of, mention_of, stored
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.schemas import SentEvent

_TIMEOUT_S = 0.25
_REMEMBERED_S = 86_400
"""An event id is remembered for a day."""
# One round trip, all or nothing: new events only, and no more than are kept. Both keys are the shopper's. An event is
# its id, its body and, where its item is counted, what mentions that in a body; answered with 0 where it was there,
# with 2 where it is the shopper's first on a counted item, else with 1.
_APPEND = """
local kept, remembered_s, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local new, bodies = {}, nil
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remembered_s)
for i = 4, #ARGV, 3 do
    local one = 0
    if ARGV[i] == '' or redis.call('ZADD', KEYS[2], 'NX', now, ARGV[i]) == 1 then
        one = 1
        if ARGV[i + 2] ~= '' then
            bodies = bodies or redis.call('LRANGE', KEYS[1], 0, -1)
            one = 2
            for _, body in ipairs(bodies) do
                if string.find(body, ARGV[i + 2], 1, true) then one = 1 break end
            end
            table.insert(bodies, ARGV[i + 1])
        end
        redis.call('RPUSH', KEYS[1], ARGV[i + 1])
    end
    table.insert(new, one)
end
redis.call('LTRIM', KEYS[1], -kept, -1)
redis.call('EXPIRE', KEYS[2], remembered_s)
return new
"""
# An item's totals are a sorted set of `hour:shoppers:events` by hour. An event is its item's key, its hour, and 1 where
# the shopper is new to the item. The last total before the oldest hour stays, for later ones are subtracted from it.
_LAST = """
local function last(key, till)
    local member = redis.call('ZREVRANGEBYSCORE', key, till, '-inf', 'LIMIT', 0, 1)[1]
    if not member then return -1, 0, 0 end
    local hour, shoppers, events = string.match(member, '(-?%d+):(%d+):(%d+)')
    return tonumber(hour), tonumber(shoppers), tonumber(events), member
end
"""
_RAISE = f"""{_LAST}
local expires_s, oldest = tonumber(ARGV[1]), tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
    local hour, new = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
    local later = redis.call('ZRANGEBYSCORE', key, hour, '+inf')
    local begun, shoppers, events = last(key, hour)
    if begun ~= hour then table.insert(later, hour .. ':' .. shoppers .. ':' .. events) end
    for _, member in ipairs(later) do
        local h, s, e = string.match(member, '(-?%d+):(%d+):(%d+)')
        redis.call('ZREM', key, member)
        redis.call('ZADD', key, h, h .. ':' .. (s + new) .. ':' .. (e + 1))
    end
    local kept = last(key, '(' .. oldest)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. kept)
    redis.call('EXPIRE', key, expires_s)
end
"""
_COUNTS = f"""{_LAST}
local sums = {{}}
for _, key in ipairs(KEYS) do
    local _, shoppers, events = last(key, ARGV[3])
    local _, shoppers_before = last(key, '(' .. ARGV[1])
    local _, _, events_before = last(key, '(' .. ARGV[2])
    table.insert(sums, shoppers - shoppers_before)
    table.insert(sums, events - events_before)
end
return sums
"""


class RedisHistory:
    """Two keys per shopper, a list of events and a sorted set of event ids by time; both carry a digest of the
    shopper's id, not the id. A sorted set of counts per item. What Redis appended to its file stays there until it next
    rewrites it (`BGREWRITEAOF`).

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
        self._raise_counts = self._redis.register_script(_RAISE)
        self._counts = self._redis.register_script(_COUNTS)

    async def append(self, tenant: str, events: Sequence[SentEvent], counted: Container[str] = ()) -> int:
        by_user: dict[str, list[StoredEvent]] = {}
        sent: dict[str, list[str]] = {}
        for event in events:
            kept = stored(event)
            mention = mention_of(event.item_id) if event.item_id is not None and event.item_id in counted else ""
            by_user.setdefault(event.user_id, []).append(kept)
            body = kept.model_dump_json(exclude_none=True)
            sent.setdefault(event.user_id, []).extend((event.event_id or "", body, mention))
        new = 0
        for user_id, arguments in sent.items():
            script = self._append(
                keys=_keys(tenant, user_id), args=[self._kept, _REMEMBERED_S, time.time(), *arguments]
            )
            found = await self._ask(script)
            new += sum(one > 0 for one in found)
            await self._raise(tenant, [
                (one.event, is_new == 2)
                for one, mention, is_new in zip(by_user[user_id], arguments[2::3], found, strict=True)
                if is_new and mention
            ])  # fmt: skip
        return new

    async def _raise(self, tenant: str, events: Sequence[tuple[Event, bool]]) -> None:
        """Count events that are kept already: where that fails they stay uncounted, for sent again they would be
        kept twice."""
        arguments: list[str | int] = []
        for event, is_new in events:
            assert event.time is not None
            arguments += (hour_of(event.time), int(is_new))
        if not events:
            return
        keys = [_count_key(tenant, str(event.item_id)) for event, _ in events]
        limits = (3600 * COUNTED_HOURS, hour_of(datetime.now(UTC)) - COUNTED_HOURS)
        try:
            await self._ask(self._raise_counts(keys=keys, args=[*limits, *arguments]))
        except StoreError as error:
            log_once_a_minute("events not counted", error=type(error).__name__, problem=str(error))

    async def counts(
        self, tenant: str, item_ids: Sequence[str], shoppers_from: int, events_from: int, until: int
    ) -> dict[str, NewEvents]:
        oldest = hour_of(datetime.now(UTC)) - COUNTED_HOURS
        keys = [_count_key(tenant, item_id) for item_id in item_ids]
        limits = (max(shoppers_from, oldest), max(events_from, oldest), until)
        sums = await self._ask(self._counts(keys=keys, args=limits))
        found = {item_id: NewEvents(*sums[2 * n : 2 * n + 2]) for n, item_id in enumerate(item_ids)}
        return {item_id: one for item_id, one in found.items() if max(one) > 0}

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


def _count_key(tenant: str, item_id: str) -> str:
    """All of a tenant's lie on one node of a cluster, for they are read together."""
    digest = hashlib.sha256(tenant.encode()).hexdigest()
    return f"reshelf:{{{digest}}}:counts:{item_id}"


def _keys(tenant: str, user_id: str) -> tuple[str, str]:
    """Of the events and of their ids."""
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode()).hexdigest()
    key = f"reshelf:{{{digest}}}"  # braces: one shopper's keys lie on one node of a cluster
    return key, f"{key}:event_ids"

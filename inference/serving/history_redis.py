"""Shoppers' events in Redis, for several servers; in a Redis Cluster too.

    store = RedisHistory("redis://localhost:6379/0", kept=500)

How safe a stored event is, is Redis's `appendfsync` to say: `always` loses none.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from reshelf.data.schema import Event
from reshelf.data.signals.kept import NewEvents
from reshelf.errors import InputError
from reshelf.inference.serving.history import (
    COUNTED_HOURS,
    FORGOTTEN_S,
    REMEMBERED_S,
    History,
    StoreError,
    digest,
    hour_of,
    mention_of,
    read_events,
    stored,
)
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.schemas import SentEvent

_TIMEOUT_S = 0.25
# Scripts are one round trip, all or nothing. Their keys are one shopper's: events, ids of events, when forgotten. An
# event is its id, its time, its body and, where its item is counted, what mentions that in a body; answered with 0
# where it is refused, with 2 where it is the shopper's first on a counted item, else with 1.
_APPEND = """
local kept, remembered_s, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local forgotten = tonumber(redis.call('GET', KEYS[3]) or '')
local new, bodies = {}, nil
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remembered_s)
for i = 4, #ARGV, 4 do
    local event_id, body, mention, one = ARGV[i], ARGV[i + 2], ARGV[i + 3], 0
    local before = forgotten and tonumber(ARGV[i + 1]) <= forgotten
    if not before and (event_id == '' or redis.call('ZADD', KEYS[2], 'NX', now, event_id) == 1) then
        one = 1
        if mention ~= '' then
            bodies = bodies or redis.call('LRANGE', KEYS[1], 0, -1)
            one = 2
            for _, other in ipairs(bodies) do
                if string.find(other, mention, 1, true) then one = 1 break end
            end
        end
        if bodies then table.insert(bodies, body) end
        redis.call('RPUSH', KEYS[1], body)
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
    forgotten. They carry a digest of the shopper's id, not the id, and lie on one node of a cluster. A sorted set of
    counts per item; a tenant's lie on one node. What Redis appended to its file stays there until it next rewrites it
    (`BGREWRITEAOF`).

    Args:
        address: redis://[user@]host:port/database
        kept: latest events kept of a shopper.
        keep_s: seconds after which an event is no longer kept; None for ever.
        password_file: of one line.

    Raises:
        InputError: redis-py is not installed, the address is not one or has a password in it, or there is none in the
            file.
    """

    def __init__(self, address: str, kept: int, keep_s: float | None = None, password_file: Path | None = None) -> None:
        try:
            from redis.asyncio import Redis
        except ImportError as error:
            raise InputError("history in Redis needs redis-py; `pip install reshelf[redis]`") from error
        self._kept, self._keep_s = kept, keep_s
        self._settings: dict[str, Any] = {
            "socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, "decode_responses": True,
        }  # fmt: skip
        try:
            parts = urlsplit(address)
            in_address = bool(parts.password) or "password" in parse_qs(parts.query)
            if password_file is not None:
                read_password(password_file)
                user = unquote(parts.username or "")
                self._settings["credential_provider"] = _PasswordFile(password_file, user)
                parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
            self._address = parts.geturl()
            self._redis: Any = Redis.from_url(self._address, **self._settings)
        except InputError:
            raise
        except ValueError:  # whose message may hold a password with a slash in it
            raise InputError("history is no address of a Redis; give redis://host:port/database") from None
        if in_address:
            raise InputError("history has a password in it, for all to see; put it into redis_password_file")
        self._kind_known = False
        self._finding = asyncio.Lock()

    async def append(self, tenant: str, events: Sequence[SentEvent], counted: Container[str] = ()) -> int:
        by_user: dict[str, list[Event]] = {}
        entries: dict[str, list[str | float]] = {}
        for event in events:
            one = stored(event)
            event_id = "" if event.event_id is None else digest(tenant, event.user_id, event.event_id)
            when = 0.0 if one.event.time is None else one.event.time.timestamp()
            mention = mention_of(event.item_id) if event.item_id is not None and event.item_id in counted else ""
            by_user.setdefault(event.user_id, []).append(one.event)
            entry = (event_id, when, one.model_dump_json(exclude_none=True), mention)
            entries.setdefault(event.user_id, []).extend(entry)
        new = 0
        for user_id, sent in by_user.items():
            arguments = [self._kept, int(REMEMBERED_S), time.time(), *entries[user_id]]
            found: list[int] = await self.evaluate(_APPEND, _keys(tenant, user_id), arguments)
            new += sum(one > 0 for one in found)
            taken = zip(sent, entries[user_id][3::4], found, strict=True)
            await self._raise(tenant, [(event, one == 2) for event, mention, one in taken if one and mention])
        return new

    async def _raise(self, tenant: str, events: Sequence[tuple[Event, bool]]) -> None:
        """Count events that are kept already: where that fails they stay uncounted, for sent again they would be
        kept twice."""
        if not events:
            return
        keys = [_count_key(tenant, str(event.item_id)) for event, _ in events]
        arguments = [3600 * COUNTED_HOURS, hour_of(datetime.now(UTC)) - COUNTED_HOURS]
        for event, is_new in events:
            assert event.time is not None
            arguments += (hour_of(event.time), int(is_new))
        try:
            await self.evaluate(_RAISE, keys, arguments)
        except StoreError as error:
            log_once_a_minute("events not counted", error=type(error).__name__, problem=str(error))

    async def counts(
        self, tenant: str, item_ids: Sequence[str], shoppers_from: int, events_from: int, until: int
    ) -> dict[str, NewEvents]:
        oldest = hour_of(datetime.now(UTC)) - COUNTED_HOURS
        keys = [_count_key(tenant, item_id) for item_id in item_ids]
        sums = await self.evaluate(_COUNTS, keys, [max(shoppers_from, oldest), max(events_from, oldest), until])
        found = {item_id: NewEvents(*sums[2 * n : 2 * n + 2]) for n, item_id in enumerate(item_ids)}
        return {item_id: one for item_id, one in found.items() if max(one) > 0}

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


class _PasswordFile:
    """What redis-py asks for credentials before it connects, so that a changed password is seen."""

    def __init__(self, path: Path, user: str) -> None:
        self._path, self._user = path, user

    async def get_credentials_async(self) -> tuple[str, ...]:
        try:
            password = read_password(self._path)
        except InputError as error:
            raise OSError(str(error)) from error
        return (self._user, password) if self._user else (password,)


def read_password(path: Path) -> str:
    """The first line of a file.

    Raises:
        InputError: there is none. It does not say what the path is: somebody may have given the password itself.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"redis_password_file cannot be read ({type(error).__name__}); give its path") from error
    if not lines or not lines[0]:
        raise InputError("redis_password_file is empty; write the password into its first line")
    return lines[0]


def _count_key(tenant: str, item_id: str) -> str:
    """All of a tenant's lie on one node of a cluster, for they are read together. None looks like a shopper's."""
    return f"reshelf:counts:{{{digest(tenant)}}}:{item_id}"


def _keys(tenant: str, user_id: str) -> tuple[str, str, str]:
    """Of the events, of their ids, and of when the shopper was forgotten."""
    shopper = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode()).hexdigest()
    key = f"reshelf:{{{shopper}}}"  # braces: one shopper's keys lie on one node of a cluster
    return key, f"{key}:event_ids", f"{key}:forgotten"

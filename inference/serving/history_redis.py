"""Shoppers' events in Redis, for several servers; in a Redis Cluster too.

    store = RedisHistory("redis://localhost:6379/0", kept=500)

How safe a stored event is, is Redis's `appendfsync` to say: `always` loses none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from reshelf.data.schema import Event
from reshelf.data.signals.live import MOST_EVENTS, Interaction
from reshelf.errors import InputError
from reshelf.inference.serving.history import (
    AT_ONCE,
    FORGOTTEN_S,
    INTERACTIONS_S,
    REMEMBERED_S,
    History,
    StoreError,
    digest,
    interaction,
    read_events,
    shopper_number,
    stored,
)
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.schemas import SentEvent

_TIMEOUT_S = 0.25
_STREAM = "reshelf:interactions:"
_SEQUENCE = 20
"""Bits for how many entries a stream gets in one millisecond."""
# Scripts are one round trip, all or nothing, by Redis' own clock: those of servers may differ. Their keys are one
# shopper's: events, ids of events, when forgotten. An event is its id, the time that it was sent with and its body;
# answered with 0 where it is refused, else with 1.
_APPEND = """
local kept, remembered_s, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(redis.call('TIME')[1])
local forgotten = tonumber(redis.call('GET', KEYS[3]) or '')
local new = {}
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remembered_s)
for i = 3, #ARGV, 3 do
    local event_id, time, one = ARGV[i], tonumber(ARGV[i + 1]), 0
    local before = forgotten and time and time <= forgotten
    if not before and (event_id == '' or redis.call('ZADD', KEYS[2], 'NX', now, event_id) == 1) then
        one = 1
        redis.call('RPUSH', KEYS[1], ARGV[i + 2])
    end
    table.insert(new, one)
end
redis.call('LTRIM', KEYS[1], -kept, -1)
redis.call('EXPIRE', KEYS[2], remembered_s)
return new
"""
# A tenant's interactions, of all shoppers, are a stream.
_TELL = """
for i = 3, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'told', ARGV[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
_FORGET = """
local count = redis.call('LLEN', KEYS[1])
redis.call('DEL', KEYS[1])
local now = redis.call('TIME')
redis.call('SET', KEYS[3], string.format('%d.%06d', now[1], now[2]), 'EX', ARGV[1])
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
    forgotten. They carry a digest of the shopper's id, not the id, and lie on one node of a cluster. And a stream per
    tenant, of the events on items. What Redis appended to its file stays there until it next rewrites it
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
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as error:
            raise InputError("history in Redis needs redis-py; `pip install reshelf[redis]`") from error
        self._kept, self._keep_s = kept, keep_s
        self._settings: dict[str, Any] = {
            "socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, "decode_responses": True,
            # By itself redis-py sends again what was not answered in time, in a cluster up to ten times: seconds for a
            # request, and an event for each (findings/redis_py_counts_a_slow_write_again.sh).
            "retry": Retry(NoBackoff(), 0),
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

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        by_user: dict[str, list[tuple[Event, str, float | str, str]]] = {}
        for event in events:
            one = stored(event)
            event_id = "" if event.event_id is None else digest(tenant, event.user_id, event.event_id)
            sent_with = "" if event.time is None else event.time.timestamp()
            entry = (one.event, event_id, sent_with, one.model_dump_json(exclude_none=True))
            by_user.setdefault(event.user_id, []).append(entry)
        new = 0
        for user_id, sent in by_user.items():
            arguments: list[Any] = [self._kept, int(REMEMBERED_S)]
            for _, event_id, sent_with, body in sent:
                arguments += (event_id, sent_with, body)
            found: list[int] = await self.evaluate(_APPEND, _keys(tenant, user_id), arguments)
            new += sum(found)
            kept = [one_event for (one_event, *_), is_new in zip(sent, found, strict=True) if is_new]
            told = [interaction(0, shopper_number(tenant, user_id), one_event) for one_event in kept]
            await self._tell(tenant, [one for one in told if one is not None])
        return new

    async def _tell(self, tenant: str, events: Sequence[Interaction]) -> None:
        """Tell events that are kept already: where that fails they stay untold, for sent again they would be kept
        twice."""
        if not events:
            return
        arguments = [MOST_EVENTS, int(INTERACTIONS_S), *(json.dumps(event[1:], ensure_ascii=False) for event in events)]
        try:
            await self.evaluate(_TELL, [_stream(tenant)], arguments)
        except StoreError as error:
            log_once_a_minute("events not counted", error=type(error).__name__, problem=str(error))

    async def interactions(self, tenant: str, after: int) -> tuple[list[Interaction], int]:
        key, start = _stream(tenant), f"{after >> _SEQUENCE}-{after % (1 << _SEQUENCE)}"
        entries = await self._ask(methodcaller("xread", {key: start}, count=AT_ONCE))
        found = [(_number(entry), json.loads(told["told"])) for _, some in entries for entry, told in some]
        oldest = 1e6 * (time.time() - min(INTERACTIONS_S, self._keep_s or INTERACTIONS_S))
        events = [Interaction(number, *told) for number, told in found]
        return [one for one in events if not one.item_id or one.time > oldest], found[-1][0] if found else after

    async def read(self, tenant: str, user_id: str) -> History:
        events, *_ = _keys(tenant, user_id)
        return read_events(await self._ask(lambda redis: redis.lrange(events, -self._kept, -1)), self._keep_s)

    async def forget(self, tenant: str, user_id: str) -> int:
        gone = int(await self.evaluate(_FORGET, _keys(tenant, user_id), [int(FORGOTTEN_S)]))
        key, shopper, start = _stream(tenant), shopper_number(tenant, user_id), "-"
        while entries := await self._ask(methodcaller("xrange", key, start, count=AT_ONCE)):
            mine = [entry for entry, fields in entries if json.loads(fields["told"])[0] == shopper]
            if mine:
                await self._ask(methodcaller("xdel", key, *mine))
            start = f"({entries[-1][0]}"
        await self._tell(tenant, [Interaction(0, shopper, "")])  # to servers that have them in memory
        return gone

    async def purge(self) -> int:
        if self._keep_s is None:
            return 0
        oldest = f"{(datetime.now(UTC) - timedelta(seconds=self._keep_s)).replace(tzinfo=None).isoformat()}Z"

        async def events_keys(redis: Any) -> list[str]:
            return [key async for key in redis.scan_iter(match="reshelf:{*}", count=1000)]

        async def streams(redis: Any) -> list[str]:
            return [key async for key in redis.scan_iter(match=f"{_STREAM}*", count=1000)]

        kept_from = int(1000 * (time.time() - self._keep_s))
        for key in await self._ask(streams):
            await self._ask(methodcaller("xtrim", key, minid=kept_from))
        return sum([int(await self.evaluate(_PURGE, [key], [oldest])) for key in await self._ask(events_keys)])

    async def evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script in Redis returns; all of its keys lie on one node."""
        return await self._ask(lambda redis: redis.eval(script, len(keys), *keys, *arguments))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            if not self._kind_known:
                await self._find_kind()
            return await command(self._redis)
        except Exception as error:  # RuntimeError and AttributeError too, of connections that a failover closes
            raise StoreError(str(error)) from error

    async def _find_kind(self) -> None:
        """One node of a cluster answers for its own shoppers only: then a client that knows all nodes is used."""
        from redis._parsers import AsyncCommandsParser
        from redis.asyncio import RedisCluster

        class Commands(AsyncCommandsParser):
            """After every error redis-py reads anew where nodes are, which is needed, and where each of Redis' commands
            has its keys, which stays and takes 45 ms of the event loop: one node that is stuck would hold up all."""

            async def initialize(self, node: Any = None) -> None:
                if not self.commands:
                    await super().initialize(node)

        async with self._finding:
            if self._kind_known:
                return
            if (await self._redis.info("cluster")).get("cluster_enabled"):
                cluster: Any = RedisCluster.from_url(self._address, **self._settings)
                cluster.commands_parser = Commands()
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


def _stream(tenant: str) -> str:
    return f"{_STREAM}{digest(tenant)}"


def _number(entry: str) -> int:
    """Of an entry's id, `milliseconds-sequence`."""
    milliseconds, _, sequence = entry.partition("-")
    return (int(milliseconds) << _SEQUENCE) + int(sequence)


def _keys(tenant: str, user_id: str) -> tuple[str, str, str]:
    """Of the events, of their ids, and of when the shopper was forgotten."""
    shopper = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode()).hexdigest()
    key = f"reshelf:{{{shopper}}}"  # braces: one shopper's keys lie on one node of a cluster
    return key, f"{key}:event_ids", f"{key}:forgotten"

"""What shoppers did, kept where the next ranking finds it.

    store = await open_store("history.sqlite", kept=500)       # or redis://localhost:6379/0
    await store.append("tenant", [SentEvent(user_id="u1", kind="click", item_id="p7")])
    history = await store.read("tenant", "u1")                  # oldest first, in the order they arrived

`append` returns when the events are safe: on disk, or in Redis. A store that cannot answer raises StoreError.

Beside the events of shoppers lie counts of items, which are nobody's: how many events there were, and how many shoppers
took the item for the first time, as far as their kept events go. They are kept as totals up to each hour that had any,
so that a sum over hours is the difference of two, however busy the item was.

An event that is delivered again is none: its id is remembered for a day, as a digest, also when the event itself was
pruned or its shopper forgotten. For a month a forgotten shopper's events of before that moment are refused. What is
refused raises no count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError
from pydantic_core import to_json

from reshelf.data.schema import Event
from reshelf.data.signals.kept import NewEvents
from reshelf.inference.serving.schemas import SentEvent, StoredEvent

REDIS = ("redis://", "rediss://")
"""What the address of a Redis begins with."""
REMEMBERED_S = 86_400.0
"""An event id is remembered for a day."""
FORGOTTEN_S = 30 * 86_400.0
"""Events of before a shopper was forgotten are refused for so long."""
COUNTED_HOURS = 24 * 60
"""How far back counts tell hours apart."""


class StoreError(Exception):
    """The store is away, locked or full."""


@dataclass(frozen=True)
class History:
    """A shopper's latest events."""

    events: tuple[StoredEvent, ...] = ()
    """Oldest first."""
    unreadable: int = 0
    """Left out, for what is stored is no event."""


class HistoryStore(Protocol):
    """Both stores."""

    async def append(self, tenant: str, events: Sequence[SentEvent], counted: Container[str] = ()) -> int:
        """Keep events; returns how many were new.

        Args:
            counted: ids of the items whose counts the new ones raise. No other id is in a count, for a count outlives
                its shoppers.
        """
        ...

    async def counts(
        self, tenant: str, item_ids: Sequence[str], shoppers_from: int, events_from: int, until: int
    ) -> dict[str, NewEvents]:
        """What was counted of items; those with nothing are left out. Hours before the last `COUNTED_HOURS` are not.

        Args:
            shoppers_from: the first hour since 1970 of which shoppers count.
            events_from: the same of events.
            until: the last hour of both.
        """
        ...

    async def read(self, tenant: str, user_id: str) -> History:
        """A shopper's latest events."""
        ...

    async def forget(self, tenant: str, user_id: str) -> int:
        """Remove all that is known of a shopper; returns how many events that were."""
        ...

    async def purge(self) -> int:
        """Remove events that are older than is kept; returns how many."""
        ...

    async def close(self) -> None: ...


def hour_of(time: datetime) -> int:
    """Since 1970 UTC."""
    return int(time.timestamp() // 3600)


def mention_of(item_id: str) -> str:
    """What the stored form of every event on an item holds, and that of no other event."""
    return f'"item_id":{to_json(item_id).decode()}'


def stored(sent: SentEvent) -> StoredEvent:
    """What is kept of a sent event."""
    when = sent.time or datetime.now(UTC)
    event = Event(kind=sent.kind, time=when, item_id=sent.item_id, query=sent.query, value=sent.value)
    return StoredEvent(event=event, item=sent.item)


def read_events(bodies: Iterable[str], keep_s: float | None) -> History:
    """Of JSON as it is stored, without what is older than is kept or cannot be read."""
    events, unreadable = [], 0
    oldest = None if keep_s is None else datetime.now(UTC) - timedelta(seconds=keep_s)
    for body in bodies:
        try:
            one = StoredEvent.model_validate_json(body)
        except ValidationError:
            unreadable += 1
            continue
        if oldest is None or one.event.time is None or one.event.time >= oldest:
            events.append(one)
    return History(tuple(events), unreadable)


def digest(*names: str) -> str:
    """Stands for names where they themselves are not to be stored."""
    return hashlib.sha256("".join(f"{len(name)}:{name}" for name in names).encode()).hexdigest()[:32]


async def open_store(
    address: str, kept: int, keep_s: float | None = None, password_file: Path | None = None
) -> HistoryStore:
    """The store at an address: redis://… or rediss://…, else a file for SQLite.

    Args:
        kept: latest events of a shopper that are kept.
        keep_s: seconds after which an event is no longer kept; None for ever.
        password_file: of the Redis.

    Raises:
        InputError: the file cannot be used, or redis-py is not installed.
    """
    if address.startswith(REDIS):
        from reshelf.inference.serving.history_redis import RedisHistory

        return RedisHistory(address, kept, keep_s, password_file)
    from reshelf.inference.serving.history_sqlite import SqliteHistory

    return await SqliteHistory.open(address, kept, keep_s)

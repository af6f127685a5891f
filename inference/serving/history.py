"""What shoppers did, kept where the next ranking finds it.

    store = await open_store("history.sqlite", kept=500)       # or redis://localhost:6379/0
    await store.append("tenant", [SentEvent(user_id="u1", kind="click", item_id="p7")])
    history = await store.read("tenant", "u1")                  # oldest first, in the order they arrived

`append` returns when the events are safe: on disk, or in Redis. A store that cannot answer raises StoreError.

Events on items are also told in the order in which they came, of all shoppers of a tenant (`interactions`): numbers of
products follow them (`data.signals.live`).

An event that is delivered again is ignored: its id is remembered for a day, as a digest, also when the event itself was
pruned or its shopper forgotten. For a month a forgotten shopper's events of before that moment are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from reshelf.data.schema import OUTCOMES, Event
from reshelf.data.signals.live import Interaction
from reshelf.inference.serving.schemas import SentEvent, StoredEvent

REDIS = ("redis://", "rediss://")
"""What the address of a Redis begins with."""
REMEMBERED_S = 86_400.0
"""An event id is remembered for a day."""
FORGOTTEN_S = 30 * 86_400.0
"""Events of before a shopper was forgotten are refused for so long."""
INTERACTIONS_S = 60 * 86_400.0
"""How long interactions are told."""
AT_ONCE = 2000
"""Interactions that are told at one time, which takes a few milliseconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        """Keep events; returns how many were new."""
        ...

    async def interactions(self, tenant: str, after: int) -> tuple[list[Interaction], int]:
        """Events on items that were kept after others, oldest first: at most the latest `MOST_EVENTS` and those of
        `INTERACTIONS_S`, and of those `AT_ONCE`.

        Args:
            after: number up to which they are known; 0 for none.

        Returns:
            Some, and the number up to which these are all; the same as before where there are no more.
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


def shopper_number(tenant: str, user_id: str) -> int:
    """Stands for a shopper among a tenant's interactions."""
    return int(digest(tenant, user_id)[:15], 16)


def interaction(number: int, shopper: int, event: Event) -> Interaction | None:
    """What is told of an event; None where it is not on an item. One of the future is one of now."""
    if event.item_id is None or event.time is None:
        return None
    time = (min(event.time, datetime.now(UTC)) - _EPOCH) // timedelta(microseconds=1)
    query = event.query if event.kind in OUTCOMES and event.query else ""
    return Interaction(number, shopper, event.item_id, time, query)


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

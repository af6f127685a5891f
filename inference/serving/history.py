"""What shoppers did, kept where the next ranking finds it.

    store = await open_store("history.sqlite", kept=500)       # or redis://localhost:6379/0
    await store.append("tenant", [SentEvent(user_id="u1", kind="click", item_id="p7")])
    history = await store.read("tenant", "u1")                  # oldest first, in the order they arrived

`append` returns when the events are safe: on disk, or in Redis. A store that cannot answer raises StoreError.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from reshelf.data.schema import Event, Item
from reshelf.inference.serving.schemas import SentEvent


class StoreError(Exception):
    """The store is away, locked or full."""


class StoredEvent(BaseModel):
    """An event and, where the shop sent it, its item."""

    model_config = ConfigDict(frozen=True)

    event: Event
    item: Item | None = None


class HistoryStore(Protocol):
    """Both stores."""

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        """Keep events; returns how many were new."""
        ...

    async def read(self, tenant: str, user_id: str) -> list[StoredEvent]:
        """A shopper's latest events, oldest first."""
        ...

    async def forget(self, tenant: str, user_id: str) -> int:
        """Remove all that is known of a shopper; returns how many events that were."""
        ...

    async def close(self) -> None: ...


def stored(sent: SentEvent) -> StoredEvent:
    """What is kept of a sent event."""
    when = sent.time or datetime.now(UTC)
    event = Event(kind=sent.kind, time=when, item_id=sent.item_id, query=sent.query, value=sent.value)
    return StoredEvent(event=event, item=sent.item)


async def open_store(address: str, kept: int) -> HistoryStore:
    """The store at an address: redis://… or rediss://…, else a file for SQLite.

    Raises:
        InputError: the file cannot be used, or redis-py is not installed.
    """
    if address.startswith(("redis://", "rediss://")):
        from reshelf.inference.serving.history_redis import RedisHistory

        return RedisHistory(address, kept)
    from reshelf.inference.serving.history_sqlite import SqliteHistory

    return await SqliteHistory.open(address, kept)

"""Shoppers' events in one SQLite file (WAL): no server needed, one server process per file.

store = await SqliteHistory.open("history.sqlite", kept=500)
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from reshelf.data.signals.kept import NewEvents
from reshelf.errors import InputError
from reshelf.inference.serving.history import COUNTED_HOURS, StoredEvent, StoreError, hour_of, mention_of, stored
from reshelf.inference.serving.schemas import SentEvent

R = TypeVar("R")
_LOCKED_S = 0.25
"""How long to wait for another process's lock: a ranking goes on without history rather than late."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, event_id TEXT, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS of_shopper ON events (tenant, user_id, number);
CREATE TABLE IF NOT EXISTS counts (
    tenant TEXT NOT NULL, item_id TEXT NOT NULL, hour INTEGER NOT NULL,
    shoppers INTEGER NOT NULL, events INTEGER NOT NULL,  -- in all hours up to this one
    PRIMARY KEY (tenant, item_id, hour)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS once ON events (tenant, user_id, event_id) WHERE event_id IS NOT NULL;
"""
_PRUNE = """
DELETE FROM events WHERE tenant = ? AND user_id = ? AND number <= (
    SELECT number FROM events WHERE tenant = ? AND user_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?
)"""

_IS_KNOWN = "SELECT EXISTS (SELECT 1 FROM events WHERE tenant = ? AND user_id = ? AND instr(body, ?))"
_BEGIN_HOUR = """
INSERT OR IGNORE INTO counts
SELECT :tenant, :item_id, :hour, coalesce(max(shoppers), 0), coalesce(max(events), 0)
FROM counts WHERE tenant = :tenant AND item_id = :item_id AND hour < :hour
"""
_RAISE = """
UPDATE counts SET shoppers = shoppers + :new, events = events + 1
WHERE tenant = :tenant AND item_id = :item_id AND hour >= :hour
"""
_TOTAL = """
coalesce((SELECT {what} FROM counts WHERE tenant = :tenant AND item_id = value AND hour {till}
    ORDER BY hour DESC LIMIT 1), 0)
"""
_COUNTS = f"""
SELECT value,
    {_TOTAL.format(what="shoppers", till="<= :until")} - {_TOTAL.format(what="shoppers", till="< :shoppers_from")},
    {_TOTAL.format(what="events", till="<= :until")} - {_TOTAL.format(what="events", till="< :events_from")}
FROM json_each(:item_ids)
"""
# The last total before it stays, for later ones are subtracted from it.
_PRUNE_COUNTS = """
DELETE FROM counts WHERE hour < (
    SELECT max(hour) FROM counts AS other
    WHERE other.tenant = counts.tenant AND other.item_id = counts.item_id AND other.hour < ?
)
"""


class SqliteHistory:
    """Use `open`. Writing and reading each have a thread and a connection, so that a reader never waits for a disk."""

    def __init__(self, path: str, kept: int) -> None:
        self._path = path
        self._kept = kept
        self._writing = ThreadPoolExecutor(1, "history-write")
        self._reading = ThreadPoolExecutor(1, "history-read")
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection

    @classmethod
    async def open(cls, path: str, kept: int) -> SqliteHistory:
        """Make or open the file.

        Raises:
            InputError: it cannot be made, or is not a SQLite file.
        """
        store = cls(path, kept)
        try:
            store._writer = await store._on(store._writing, store._connect)
            store._reader = await store._on(store._reading, store._connect)
        except StoreError as error:
            raise InputError(
                f"history {path}: {error}; give a file that can be written, or a redis:// address"
            ) from error
        return store

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_LOCKED_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        connection.execute("PRAGMA secure_delete = ON")  # forgotten is forgotten
        connection.executescript(_SCHEMA)
        connection.execute(_PRUNE_COUNTS, (hour_of(datetime.now(UTC)) - COUNTED_HOURS,))
        return connection

    async def append(self, tenant: str, events: Sequence[SentEvent], counted: Container[str] = ()) -> int:
        def write() -> int:
            new = 0
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                for event in events:
                    new += self._insert(tenant, event, counted)
                for user_id in {event.user_id for event in events}:
                    self._writer.execute(_PRUNE, (tenant, user_id, tenant, user_id, self._kept))
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            return new

        return await self._on(self._writing, write)

    def _insert(self, tenant: str, event: SentEvent, counted: Container[str]) -> int:
        """Keep one event, and count it; returns 0 where it was there."""
        kept, item_id, known = stored(event), event.item_id, True
        counts = item_id is not None and item_id in counted
        if item_id is not None and counts:
            (known,) = self._writer.execute(_IS_KNOWN, (tenant, event.user_id, mention_of(item_id))).fetchone()
        row = (tenant, event.user_id, event.event_id, kept.model_dump_json(exclude_none=True))
        new = self._writer.execute("INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?)", row).rowcount
        if new and counts and kept.event.time is not None:
            counted_at = {"tenant": tenant, "item_id": item_id, "hour": hour_of(kept.event.time), "new": not known}
            self._writer.execute(_BEGIN_HOUR, counted_at)
            self._writer.execute(_RAISE, counted_at)
        return new

    async def counts(
        self, tenant: str, item_ids: Sequence[str], shoppers_from: int, events_from: int, until: int
    ) -> dict[str, NewEvents]:
        oldest = hour_of(datetime.now(UTC)) - COUNTED_HOURS
        asked = {
            "tenant": tenant, "item_ids": json.dumps(item_ids), "until": until,
            "shoppers_from": max(shoppers_from, oldest), "events_from": max(events_from, oldest),
        }  # fmt: skip

        def read() -> dict[str, NewEvents]:
            rows = self._reader.execute(_COUNTS, asked).fetchall()
            return {item_id: NewEvents(*values) for item_id, *values in rows if max(values) > 0}

        return await self._on(self._reading, read)

    async def read(self, tenant: str, user_id: str) -> list[StoredEvent]:
        def read() -> list[StoredEvent]:
            rows = self._reader.execute(
                "SELECT body FROM events WHERE tenant = ? AND user_id = ? ORDER BY number DESC LIMIT ?",
                (tenant, user_id, self._kept),
            ).fetchall()
            return [StoredEvent.model_validate_json(body) for (body,) in reversed(rows)]

        return await self._on(self._reading, read)

    async def forget(self, tenant: str, user_id: str) -> int:
        def delete() -> int:
            gone = self._writer.execute(
                "DELETE FROM events WHERE tenant = ? AND user_id = ?", (tenant, user_id)
            ).rowcount
            (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:  # it raises nothing, and the write-ahead log still holds the events
                raise sqlite3.OperationalError("the write-ahead log is being read, so that it cannot be emptied")
            return gone

        return await self._on(self._writing, delete)

    async def close(self) -> None:
        await self._on(self._reading, self._reader.close)
        await self._on(self._writing, self._writer.close)
        self._reading.shutdown()
        self._writing.shutdown()

    async def _on(self, thread: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

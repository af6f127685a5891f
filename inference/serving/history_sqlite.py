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
    tenant TEXT NOT NULL, item_id TEXT NOT NULL, hour INTEGER NOT NULL, shoppers INTEGER NOT NULL,
    events INTEGER NOT NULL, PRIMARY KEY (tenant, item_id, hour)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS once ON events (tenant, user_id, event_id) WHERE event_id IS NOT NULL;
"""
_PRUNE = """
DELETE FROM events WHERE tenant = ? AND user_id = ? AND number <= (
    SELECT number FROM events WHERE tenant = ? AND user_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?
)"""

_IS_KNOWN = "SELECT EXISTS (SELECT 1 FROM events WHERE tenant = ? AND user_id = ? AND instr(body, ?))"
_RAISE = """
INSERT INTO counts VALUES (?, ?, ?, ?, 1)
ON CONFLICT DO UPDATE SET shoppers = shoppers + excluded.shoppers, events = events + 1
"""
_COUNTS = """
SELECT item_id, sum(iif(hour >= :shoppers_from, shoppers, 0)), sum(iif(hour >= :events_from, events, 0))
FROM counts WHERE tenant = :tenant AND item_id IN (SELECT value FROM json_each(:item_ids))
    AND hour BETWEEN min(:shoppers_from, :events_from) AND :until
GROUP BY item_id
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
        connection.execute("DELETE FROM counts WHERE hour < ?", (hour_of(datetime.now(UTC)) - COUNTED_HOURS,))
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
            self._writer.execute(_RAISE, (tenant, item_id, hour_of(kept.event.time), int(not known)))
        return new

    async def counts(
        self, tenant: str, item_ids: Sequence[str], shoppers_from: int, events_from: int, until: int
    ) -> dict[str, NewEvents]:
        asked = {
            "tenant": tenant, "item_ids": json.dumps(item_ids), "shoppers_from": shoppers_from,
            "events_from": events_from, "until": until,
        }  # fmt: skip

        def read() -> dict[str, NewEvents]:
            rows = self._reader.execute(_COUNTS, asked).fetchall()
            return {item_id: NewEvents(*values) for item_id, *values in rows if any(values)}

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

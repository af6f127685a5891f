"""Shoppers' events in one SQLite file (WAL): no server needed, one server process per file.

store = await SqliteHistory.open("history.sqlite", kept=500)
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from reshelf.errors import InputError
from reshelf.inference.serving.history import StoredEvent, StoreError, stored
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
CREATE UNIQUE INDEX IF NOT EXISTS once ON events (tenant, user_id, event_id) WHERE event_id IS NOT NULL;
"""
_PRUNE = """
DELETE FROM events WHERE tenant = ? AND user_id = ? AND number <= (
    SELECT number FROM events WHERE tenant = ? AND user_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?
)"""


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
        return connection

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        def write() -> int:
            new = 0
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                for event in events:
                    row = (tenant, event.user_id, event.event_id, stored(event).model_dump_json(exclude_none=True))
                    new += self._writer.execute("INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?)", row).rowcount
                for user_id in {event.user_id for event in events}:
                    self._writer.execute(_PRUNE, (tenant, user_id, tenant, user_id, self._kept))
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            return new

        return await self._on(self._writing, write)

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
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
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

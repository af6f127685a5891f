"""Shoppers' events in one SQLite file (WAL): no server needed, one server process per file. A second one would not know
whom the first forgets, for what it has in memory.

store = await SqliteHistory.open("history.sqlite", kept=500)
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from reshelf.data.atomic import lock_beside
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
from reshelf.inference.serving.schemas import SentEvent

R = TypeVar("R")
_LOCKED_S = 0.25
"""How long to wait for another process's lock: a ranking goes on without history rather than late."""
_SWEEP_S = 60.0
"""What is no longer remembered is removed so often."""
_PURGED = 1000
"""Events in one transaction: an event that comes waits no longer than for these."""
_VERSION = 4
"""Of the schema, in `user_version`. 0, of releases before there was one, had event ids beside the events; 3 had counts
of items."""
_SCHEMA = (
    """CREATE TABLE events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL, user_id TEXT NOT NULL, body TEXT NOT NULL, time REAL NOT NULL
    )""",
    "CREATE INDEX of_shopper ON events (tenant, user_id, number)",
)
_FROM_0 = (
    "ALTER TABLE events ADD COLUMN time REAL NOT NULL DEFAULT 0",
    """UPDATE events SET time = coalesce(
        CASE WHEN json_valid(body) THEN unixepoch(json_extract(body, '$.event.time')) END, unixepoch()
    )""",
    """INSERT OR IGNORE INTO event_ids
        SELECT digest(tenant, user_id, event_id), unixepoch() FROM events WHERE event_id IS NOT NULL""",
    "DROP INDEX once",
    "ALTER TABLE events DROP COLUMN event_id",
)
_SINCE_2 = (
    "CREATE TABLE event_ids (digest TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE forgotten (digest TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID",
)
_INDEX = (
    "CREATE INDEX events_by_time ON events (time)",
    "CREATE INDEX event_ids_by_time ON event_ids (time)",
)
_PRUNE = """
DELETE FROM events WHERE tenant = ? AND user_id = ? AND number <= (
    SELECT number FROM events WHERE tenant = ? AND user_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?
)"""
_PURGE = "DELETE FROM events WHERE number IN (SELECT number FROM events WHERE time < ? LIMIT ?)"
_INTERACTIONS = """
SELECT number, user_id, body FROM events WHERE number > :after AND tenant = :tenant AND +time > :oldest
ORDER BY number LIMIT :at_once
"""
# `+` keeps SQLite to the order of numbers, for those after the last one are few.


class SqliteHistory:
    """Use `open`. Writing and reading each have a thread and a connection, so that a reader never waits for a disk."""

    def __init__(self, path: str, kept: int, keep_s: float | None) -> None:
        self._path, self._kept, self._keep_s = path, kept, keep_s
        self._writing = ThreadPoolExecutor(1, "history-write")
        self._reading = ThreadPoolExecutor(1, "history-read")
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._swept = float("-inf")
        self._lock: TextIO | None = None
        self._opened: os.stat_result

    @classmethod
    async def open(cls, path: str, kept: int, keep_s: float | None = None) -> SqliteHistory:
        """Make or open the file, readable by its owner only; one of an earlier release is brought up to date.

        Raises:
            InputError: it cannot be made, is not a SQLite file, is of a later release, or another server has it.
        """
        store = cls(path, kept, keep_s)
        try:
            # Beside it: what closes a lock on the file itself takes SQLite's own with it.
            store._lock = lock_beside(Path(path))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            if Path(path).stat().st_mode & 0o077:
                Path(path).chmod(0o600)
            store._opened = os.stat(path)
            store._writer = await store._on(store._writing, store._connect)
            await store._on(store._writing, store._migrate)
            store._reader = await store._on(store._reading, store._connect)
        except BlockingIOError as error:
            raise InputError(
                f"history {path} is another server's; stop that one, or give another file, or the redis:// address of "
                "a history that servers share"
            ) from error
        except (StoreError, OSError) as error:
            problem = f"{path}: {error.strerror}" if isinstance(error, OSError) else error
            raise InputError(f"history {problem}; give a file that can be written, or a redis:// address") from error
        return store

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the file that has this name still: what went to one that was moved away or removed would
        be gone with the next start, although it was acknowledged.

        Raises:
            sqlite3.OperationalError: it is another one, or none.
        """
        try:
            is_there = os.path.samestat(os.stat(self._path), self._opened)
        except OSError:
            is_there = False
        if not is_there:
            raise sqlite3.OperationalError("it was moved or removed under the server; put it back, or restart that")
        with self._writer as writer:
            writer.execute("BEGIN IMMEDIATE")
            yield writer

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_LOCKED_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        connection.execute("PRAGMA secure_delete = ON")  # forgotten is forgotten
        return connection

    def _migrate(self) -> None:
        with self._writer as writer:
            writer.execute("BEGIN IMMEDIATE")
            (version,) = writer.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise sqlite3.DatabaseError(f"it has schema {version}, of a later release, and this one has {_VERSION}")
            writer.create_function("digest", 3, digest, deterministic=True)
            statements: list[str] = []
            if version < 2:
                old = writer.execute("SELECT count(*) FROM sqlite_master WHERE name = 'events'").fetchone()[0]
                statements += (*_SINCE_2, *(_FROM_0 if old else _SCHEMA), *_INDEX)
            if version < _VERSION:
                statements += ("DROP TABLE IF EXISTS counts", f"PRAGMA user_version = {_VERSION}")
            for statement in statements:
                writer.execute(statement)

    async def append(self, tenant: str, events: Sequence[SentEvent]) -> int:
        def write() -> int:
            now = time.time()
            with self._transaction() as writer:
                if now - self._swept > _SWEEP_S:
                    writer.execute("DELETE FROM event_ids WHERE time < ?", (now - REMEMBERED_S,))
                    writer.execute("DELETE FROM forgotten WHERE time < ?", (now - FORGOTTEN_S,))
                    self._swept = now
                new = sum(self._add(writer, tenant, event, now) for event in events)
                for user_id in {event.user_id for event in events}:
                    writer.execute(_PRUNE, (tenant, user_id, tenant, user_id, self._kept))
            return new

        return await self._on(self._writing, write)

    def _add(self, writer: sqlite3.Connection, tenant: str, event: SentEvent, now: float) -> bool:
        """Keep an event; returns whether it was new."""
        one = stored(event)
        when = now if one.event.time is None else one.event.time.timestamp()
        shopper = (digest(tenant, event.user_id),)
        forgotten = writer.execute("SELECT time FROM forgotten WHERE digest = ?", shopper).fetchone()
        if forgotten is not None and event.time is not None and when <= forgotten[0]:
            return False
        if event.event_id is not None:
            row = (digest(tenant, event.user_id, event.event_id), now)
            if not writer.execute("INSERT OR IGNORE INTO event_ids VALUES (?, ?)", row).rowcount:
                return False
        body = one.model_dump_json(exclude_none=True)
        writer.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, ?)", (tenant, event.user_id, body, when))
        return True

    async def interactions(self, tenant: str, after: int) -> tuple[list[Interaction], int]:
        def read() -> tuple[list[Interaction], int]:
            found = []
            (last,) = self._reader.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()
            asked = {"tenant": tenant, "oldest": time.time() - INTERACTIONS_S, "at_once": AT_ONCE}
            rows = self._reader.execute(_INTERACTIONS, asked | {"after": max(after, last - MOST_EVENTS)}).fetchall()
            for number, user_id, body in rows:
                for kept in read_events([body], self._keep_s).events:
                    one = interaction(number, shopper_number(tenant, user_id), kept.event)
                    found += [] if one is None else [one]
            return found, max(after, last) if len(rows) < AT_ONCE else rows[-1][0]

        return await self._on(self._reading, read)

    async def read(self, tenant: str, user_id: str) -> History:
        def read() -> History:
            rows = self._reader.execute(
                "SELECT body FROM events WHERE tenant = ? AND user_id = ? ORDER BY number DESC LIMIT ?",
                (tenant, user_id, self._kept),
            ).fetchall()
            return read_events([body for (body,) in reversed(rows)], self._keep_s)

        return await self._on(self._reading, read)

    async def forget(self, tenant: str, user_id: str) -> int:
        def delete() -> int:
            with self._transaction() as writer:
                gone = writer.execute("DELETE FROM events WHERE tenant = ? AND user_id = ?", (tenant, user_id)).rowcount
                row = (digest(tenant, user_id), time.time())
                writer.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", row)
            (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:  # it raises nothing, and the write-ahead log still holds the events
                raise sqlite3.OperationalError("the write-ahead log is being read, so that it cannot be emptied")
            return gone

        return await self._on(self._writing, delete)

    async def purge(self) -> int:
        if self._keep_s is None:
            return 0
        oldest, total = time.time() - self._keep_s, 0
        while gone := await self._on(self._writing, lambda: self._writer.execute(_PURGE, (oldest, _PURGED)).rowcount):
            total += gone
        return total

    async def close(self) -> None:
        await self._on(self._reading, self._reader.close)
        await self._on(self._writing, self._writer.close)
        self._reading.shutdown()
        self._writing.shutdown()
        if self._lock is not None:
            self._lock.close()

    async def _on(self, thread: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

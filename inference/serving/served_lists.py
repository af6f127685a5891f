"""The log of served lists: Parquet files that appear whole, written by a thread that no request waits for.

log = ServedListLog(folder, metrics, keep_s=90 * 86_400.0, most_bytes=10**10)
log.put(ServedList(...))
log.close()

A file is finished every five minutes, or when some 32 MB are in memory, and at the end of the server; a server that is
killed loses what it had not finished. Lists that come faster than they are written are dropped and counted, and so are
those of a file that cannot be written. `data.served_lists` says what is in them.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.atomic import atomic
from reshelf.data.schema import Item
from reshelf.data.served_lists import SERVED_SCHEMA, folded_query, make_key, pseudonym
from reshelf.errors import InputError, is_full_disk
from reshelf.inference.interleaving import draft_propensities
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.metrics import Metrics
from reshelf.metrics.ordering import ranks

_WAITING = 500
"""Lists that wait for the thread."""
_ROWS = 32
"""Lists that become columns at one time: a millisecond or two in which no request is answered."""
_BYTES = 32_000_000
_SECONDS = 300.0
_COPIED = (
    *("list_id", "tenant", "model", "model_sha256", "language", "personalization"),
    *("experiment", "control", "arm", "arm_share", "shadow_model", "fallback"),
)
"""Columns that hold what a `ServedList` says."""
_STALE_S = 3600.0
"""After so long, a file that was never finished is a dead server's."""


@dataclass(frozen=True)
class ServedList:
    """What a list was made of, and what became of it."""

    list_id: str
    tenant: str
    user_id: str | None
    query: str
    items: Sequence[Item]
    """The K candidates in first-stage order."""
    places: Sequence[int]
    """Their places in the request, from 0."""
    served: np.ndarray
    """int64, candidates in served order: at most K."""
    model: str
    model_sha256: str
    language: str
    personalization: float
    scores: np.ndarray | None = None
    """float32 [K]; None in a fallback."""
    experiment: str | None = None
    control: str | None = None
    """The experiment's first arm."""
    arm: str | None = None
    arm_share: float | None = None
    teams: Mapping[int, str] | None = None
    """Interleaved: which arm picked a candidate."""
    orders: tuple[list[int], list[int]] | None = None
    """`Interleaved.orders`."""
    shadow_model: str | None = None
    shadow: np.ndarray | None = None
    """float [K], what a shadow orders by."""
    fallback: str | None = None


class ServedListLog:
    """Writes `ServedList`s to a folder, which several servers may share.

    Args:
        folder: to write to.
        metrics: what is counted.
        keep_s: seconds that a file is kept; None for no such end.
        most_bytes: that all files may have together; the oldest ones go first.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, metrics: Metrics, keep_s: float | None, most_bytes: float) -> None:
        self._folder, self._metrics = folder, metrics
        self._keep_s, self._most_bytes = keep_s, most_bytes
        self._key = make_key(folder)
        with atomic(folder / ".writable") as partial:  # found out now, not with the first file
            partial.touch()
        (folder / ".writable").unlink(missing_ok=True)
        self._lists: queue.Queue[tuple[datetime, ServedList] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, name="served lists", daemon=True)
        self._thread.start()

    def put(self, served: ServedList) -> None:
        """Have a list written; never waits."""
        try:
            self._lists.put_nowait((datetime.now(UTC), served))
        except queue.Full:
            self._dropped(1, "they come faster than they are written")

    def close(self) -> None:
        """Finish the last file."""
        self._lists.put(None)
        self._thread.join()

    def _write(self) -> None:
        batches: list[pa.RecordBatch] = []
        rows: list[dict[str, Any]] = []
        due = time.monotonic() + _SECONDS
        ended = False
        while not ended:
            try:
                found = self._lists.get(timeout=max(0.0, due - time.monotonic()))
                ended = found is None
                if found is not None:
                    rows.append(self._row(*found))
            except queue.Empty:
                pass
            except Exception as error:  # of one list; the thread goes on
                self._dropped(1, f"{type(error).__name__}: {error}")
            over = ended or time.monotonic() >= due
            if rows and (over or len(rows) == _ROWS):
                batches.append(pa.RecordBatch.from_pylist(rows, SERVED_SCHEMA))
                rows = []
            if over or sum(batch.nbytes for batch in batches) >= _BYTES:
                self._finish(batches)
                batches, due = [], time.monotonic() + _SECONDS

    def _row(self, now: datetime, one: ServedList) -> dict[str, Any]:
        served = one.served.tolist()
        row: dict[str, Any] = {
            "time": now,
            "user": None if one.user_id is None else pseudonym(self._key, one.tenant, one.user_id),
            "query": pseudonym(self._key, one.tenant, key) if (key := folded_query(one.query)) else None,
            "candidates": [one.items[k].item_id for k in served],
            "positions": list(range(1, len(served) + 1)),
            "first_stage": [one.places[k] + 1 for k in served],
            "scores": None if one.scores is None else one.scores[one.served].tolist(),
        }
        if one.teams is None:
            row["propensities"] = [1.0] * len(served)
        else:
            row["teams"] = [one.teams.get(k) for k in served]
            if one.orders is not None:
                row["propensities"] = draft_propensities(*one.orders, served)
        if one.shadow is not None:
            row["shadow"] = ranks(one.shadow)[one.served].tolist()
        return row | {name: getattr(one, name) for name in _COPIED}

    def _finish(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Make a file of them, and room for it."""
        try:
            if batches:
                name = f"served-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.parquet"
                with atomic(self._folder / name) as partial:
                    pq.write_table(pa.Table.from_batches(batches), partial, compression="zstd")
                self._metrics.served_lists.labels("written").inc(sum(map(len, batches)))
                # A folder that was moved away took the key with it, and this is another, perhaps another server's.
                self._key = make_key(self._folder, self._key)
        except (OSError, InputError, pa.ArrowException) as error:
            problem = "the disk is full; make room" if is_full_disk(error) else error
            self._dropped(sum(map(len, batches)), f"{self._folder}: {problem}")
        self._prune()

    def _dropped(self, lists: int, why: str) -> None:
        self._metrics.served_lists.labels("dropped").inc(lists)
        log_once_a_minute("served lists dropped", lists=lists, problem=why)

    def _prune(self) -> None:
        """Remove what is kept too long or is too much, the oldest first."""
        total = 0
        files = sorted(self._folder.glob("served-*.parquet"), reverse=True)
        for path in (*files, *self._folder.glob(".served-*.partial")):
            with contextlib.suppress(OSError):  # another server was faster
                found = path.stat()
                age_s = time.time() - found.st_mtime
                total += found.st_size
                is_whole = path.suffix == ".parquet"
                keep_s = self._keep_s if is_whole else _STALE_S
                if (is_whole and total > self._most_bytes) or (keep_s is not None and age_s > keep_s):
                    path.unlink()

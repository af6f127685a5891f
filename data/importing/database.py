"""The DuckDB that an import works in: it may read below the root and nothing else, and holds what it must on disk.

    with open_work(folder, root, report, progress) as work:
        work.number("SELECT count(*) FROM 'events-*.parquet'")

Paths in its SQL are absolute: DuckDB would look for relative ones in the process's own folder. Nothing is fetched from
the network, no extension is loaded, no setting can be changed any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.progress import Progress

from reshelf.data.importing.import_report import ImportReport
from reshelf.errors import InputError
from reshelf.unicode import whole_json

MEMORY = "2GB"
"""What DuckDB may hold before it writes to the folder; the catalogue and a few numbers per list come on top."""
ROWS = 250_000
"""Rows of a query that are handed over at once."""
Arrays = dict[str, npt.NDArray[Any]]


class Spool:
    """Arrays that grow at the end, as one file each, and are read as memory-mapped arrays."""

    def __init__(self, folder: Path, types: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.paths = {name: folder / name for name in types}
        self.types = {name: np.dtype(kind) for name, kind in types.items()}
        self._files: dict[str, IO[bytes]] = {name: path.open("wb") for name, path in self.paths.items()}

    def add(self, **values: Any) -> None:
        for name, file in self._files.items():
            file.write(np.ascontiguousarray(values[name], dtype=self.types[name]).data)

    def columns(self) -> Arrays:
        """Everything that was added; nothing can be added any more."""
        for file in self._files.values():
            file.close()
        return {
            name: np.memmap(path, dtype=self.types[name], mode="r")
            if path.stat().st_size
            else np.zeros(0, dtype=self.types[name])
            for name, path in self.paths.items()
        }


@dataclass
class Work:
    """One import at work."""

    folder: Path
    """For everything that is put aside; it goes away afterwards."""
    root: Path
    base: duckdb.DuckDBPyConnection
    report: ImportReport
    progress: Progress
    halves: int = 0
    """Halves of surrogate pairs replaced so far, while `counting`."""
    counting: bool = False

    def run(self, query: str) -> None:
        self.base.execute(query)

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        return self.base.execute(query).fetchall()

    def number(self, query: str) -> int:
        """The one number a query answers; 0 for null."""
        return int(self.fetch(query)[0][0] or 0)

    def arrays(self, query: str) -> Arrays:
        """The whole answer, one array per column."""
        return {name: np.asarray(values) for name, values in self.base.execute(query).fetchnumpy().items()}

    def batches(self, query: str, rows: int = ROWS) -> Iterator[Arrays]:
        """The rows of a query, piece by piece."""
        for batch in pa.RecordBatchReader.from_stream(self.base.sql(query)):
            for start in range(0, len(batch), rows):
                piece = batch.slice(start, rows)
                yield {name: piece.column(name).to_numpy(zero_copy_only=False) for name in piece.schema.names}

    def texts(self, query: str) -> pa.Array:
        """The one text column of a query."""
        table = pa.RecordBatchReader.from_stream(self.base.sql(query)).read_all()
        column = table.column(0).combine_chunks()
        return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column

    def spool(self, name: str, query: str, types: Mapping[str, Any]) -> Arrays:
        """The answer as memory-mapped arrays, one per column."""
        spool = Spool(self.folder / name, types)
        task = self.progress.add_task(f"sorting {name}", total=None)
        for piece in self.batches(query):
            spool.add(**piece)
            self.progress.advance(task, len(next(iter(piece.values()))))
        return spool.columns()

    def task(self, what: str) -> None:
        """Say what is being done."""
        self.progress.add_task(what, total=None)


@contextmanager
def open_work(
    folder: Path, root: Path, report: ImportReport, progress: Progress, memory: str = MEMORY, remote: bool = False
) -> Iterator[Work]:
    """A database in an empty folder.

    Args:
        folder: absolute; it is made.
        remote: the tables' SQL may also read from s3 and https.

    Raises:
        InputError: the root is no folder.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the folder that the mapping's files are in with --root")
    folder.mkdir(parents=True)
    config: dict[str, Any] = {"memory_limit": memory, "temp_directory": str(folder / "spill")}
    config["fsync_mode"] = "NONE"  # nothing of it outlives the import
    if not remote:
        config |= {"autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
    base = duckdb.connect(str(folder / "work.duckdb"), config=config)
    work = Work(folder, root, base, report, progress)

    def whole(line: str) -> str:
        mended, halves = whole_json(line)
        work.halves += halves * work.counting
        return mended

    base.create_function("whole_json", whole, ["VARCHAR"], "VARCHAR")
    base.execute("SET TimeZone = 'UTC'")
    if not remote:
        allowed = [quoted(str(root.resolve())), quoted(str(folder.resolve() / "plain"))]  # copies in utf-8
        base.execute(f"SET allowed_directories = [{', '.join(allowed)}]")
        base.execute("SET enable_external_access = false")
    base.execute("SET lock_configuration = true")
    try:
        yield work
    finally:
        base.close()


def utc_database() -> duckdb.DuckDBPyConnection:
    """A database in memory that loads no extension; times are UTC."""
    base = duckdb.connect(config={"autoload_known_extensions": "false", "autoinstall_known_extensions": "false"})
    base.execute("SET TimeZone = 'UTC'")  # in the config it is refused (findings/duckdb_time_zone_at_connect.sh)
    return base


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def named(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'

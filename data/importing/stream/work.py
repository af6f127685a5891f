"""What a streamed import works with: a DuckDB database and columns in a folder, and texts as numbers.

work = open_work(folder, books, progress);   work.users.of(pa.array(["u1", None, "u1"]))      # [0, -1, 0]
spool = Spool(folder / "candidates", {"item": np.int32});   spool.add(item=[1, 2]);   spool.columns()["item"]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import Progress

from reshelf.data.importing.import_report import Accounts

MEMORY = "3GB"
"""What DuckDB may hold before it writes to the folder; names of shoppers, queries, lists and products come on top."""
ROWS = 250_000
"""Rows of a table that are read at once."""
Int32 = npt.NDArray[np.int32]
Columns = dict[str, npt.NDArray[Any]]


class Codes:
    """Texts as numbers, counted from 0 in order of first appearance."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.known)

    def of(self, texts: pa.StringArray) -> Int32:
        """Codes, int32 [N]; -1 for null. New texts get new codes."""
        encoded = pc.dictionary_encode(texts)
        new = [self.known.setdefault(text, len(self.known)) for text in encoded.dictionary.to_pylist()]
        codes = np.array([*new, -1], dtype=np.int32)
        return codes[pc.fill_null(encoded.indices, len(new)).to_numpy(zero_copy_only=False)]

    def texts(self) -> pa.StringArray:
        """All texts in order of their codes."""
        return pa.array(self.known, pa.string())


class Spool:
    """Columns that grow at the end, as one file each, and are read as memory-mapped arrays."""

    def __init__(self, folder: Path, types: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.paths = {name: folder / name for name in types}
        self.types = {name: np.dtype(kind) for name, kind in types.items()}
        self._files: dict[str, IO[bytes]] = {name: path.open("wb") for name, path in self.paths.items()}

    def add(self, **values: Any) -> None:
        for name, file in self._files.items():
            file.write(np.ascontiguousarray(values[name], dtype=self.types[name]).data)

    def columns(self) -> Columns:
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
    """One streamed import."""

    folder: Path
    """For everything that is put aside; it goes away afterwards."""
    base: duckdb.DuckDBPyConnection
    books: Accounts
    progress: Progress
    rows: int = ROWS
    users: Codes = field(default_factory=Codes)
    queries: Codes = field(default_factory=Codes)
    lists: Codes = field(default_factory=Codes)

    def insert(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows; the columns come in the order of the table's."""
        piece = pa.table(dict(columns))
        self.base.register("piece", piece)
        self.base.execute(f"INSERT INTO {table} SELECT * FROM piece")
        self.base.unregister("piece")

    def number(self, query: str) -> int:
        """The one number a query answers; 0 for null."""
        return int(self.base.execute(query).fetchall()[0][0] or 0)

    def batches(self, query: str) -> Iterator[Columns]:
        """The rows of a query, piece by piece."""
        for batch in pa.RecordBatchReader.from_stream(self.base.sql(query)):
            for start in range(0, len(batch), self.rows):
                piece = batch.slice(start, self.rows)
                yield {name: piece.column(name).to_numpy(zero_copy_only=False) for name in piece.schema.names}


def open_work(folder: Path, books: Accounts, progress: Progress, memory: str = MEMORY, rows: int = ROWS) -> Work:
    """A database in an empty folder."""
    folder.mkdir(parents=True)
    base = duckdb.connect(
        str(folder / "work.duckdb"), config={"memory_limit": memory, "temp_directory": str(folder / "spill")}
    )
    return Work(folder, base, books, progress, rows)

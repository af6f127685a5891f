"""The input of a batch job: Parquet files as one long sequence of rows, cut into shards.

    files = [inspect_file(path, name) for path, name in find_files("lists/*.parquet")]
    reader = ShardReader(files, shard_lists=1024)
    for name, first_row, batch in reader.read(3): ...

Files are sorted by name; shard n is rows [n·S, (n+1)·S) of all of them.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.errors import InputError
from reshelf.inference.batch.rows import check_columns

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class InputFile:
    """A Parquet file of lists, and what shows that it has changed."""

    path: Path
    name: str
    """Its path below the folder that was given, or below the fixed part of the pattern."""
    rows: int
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""


def find_files(lists: str, leave_out: Iterable[Path] = ()) -> list[tuple[Path, str]]:
    """Paths and names of the Parquet files that a file, folder or pattern stands for, sorted by name.

    Raises:
        InputError: there are none.
    """
    path = Path(lists)
    if path.is_file():
        return [(path, path.name)]
    if path.is_dir():
        base, found = path, [p for p in path.iterdir() if p.suffix == ".parquet" and not p.name.startswith((".", "_"))]
    else:
        fixed = takewhile(lambda part: not any(sign in part for sign in "*?["), path.parts)
        base, found = Path(*fixed), [Path(p) for p in {*glob.glob(lists, recursive=True)}]  # of `**/**` some twice
    left_out = {p.resolve() for p in leave_out}
    found = [p for p in found if p.is_file() and p.resolve() not in left_out]
    if not found:
        hint = "; for folders inside it give a pattern such as 'folder/**/*.parquet'" if path.is_dir() else ""
        raise InputError(f"lists: {lists} has no Parquet files{hint}")
    return sorted(((p, p.relative_to(base).as_posix()) for p in found), key=lambda pair: pair[1])


def inspect_file(path: Path, name: str) -> InputFile:
    """Look at a file's columns and size, not at its rows.

    Raises:
        InputError: it is not Parquet, or a column is missing or of a wrong type.
    """
    try:
        with pq.ParquetFile(path) as source:
            check_columns(path, source.schema_arrow)
            rows = source.metadata.num_rows
        stat = path.stat()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {_one_line(error)}") from error
    return InputFile(path, name, rows, stat.st_size, stat.st_mtime_ns)


class ShardReader:
    """Reads the rows of shards. Going forward, every row group is decoded once, however large it is.

    Args:
        files: in the order of the job.
        shard_lists: rows per shard.
    """

    def __init__(self, files: Sequence[InputFile], shard_lists: int) -> None:
        self._files = files
        self._size = shard_lists
        self._starts = [0, *accumulate(file.rows for file in files)]
        self._open: int | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        self._next = 0
        self._groups: list[int] = []

    @property
    def rows(self) -> int:
        return self._starts[-1]

    @property
    def shards(self) -> int:
        return -(-self.rows // self._size)

    def size(self, shard: int) -> int:
        """Rows of a shard; the last one may have fewer than the others."""
        return min(self.rows, (shard + 1) * self._size) - shard * self._size

    def read(self, shard: int) -> Iterator[tuple[str, int, pa.RecordBatch]]:
        """File name, number of the first row within that file, and a batch of rows; in order.

        Raises:
            InputError: a file has changed since the job began, or cannot be read.
        """
        start = shard * self._size
        stop = start + self.size(shard)
        for n, file in enumerate(self._files):
            low, high = max(start, self._starts[n]), min(stop, self._starts[n + 1])
            if low >= high:
                continue
            try:
                yield from self._read_file(n, low - self._starts[n], high - self._starts[n])
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file.path}, rows from {self._next}, cannot be read: {_one_line(error)}") from error

    def _read_file(self, n: int, low: int, high: int) -> Iterator[tuple[str, int, pa.RecordBatch]]:
        self._seek(n, low)
        while self._next < high:
            batch = self._rest if self._rest is not None else next(self._batches)
            if self._next < low:
                skipped = min(low - self._next, len(batch))
                self._next += skipped
                self._rest = batch.slice(skipped) if skipped < len(batch) else None
                continue
            taken = batch.slice(0, high - self._next)
            self._rest = batch.slice(len(taken)) if len(taken) < len(batch) else None
            first, self._next = self._next, self._next + len(taken)
            if len(taken):
                yield self._files[n].name, first, taken

    def _seek(self, n: int, row: int) -> None:
        """Have the file open at or before `row`, with as few rows to skip as its row groups allow."""
        if self._open == n:
            ahead = [start for start in self._groups if self._next < start <= row]
            if self._next <= row and not ahead:
                return
        file = self._files[n]
        stat = file.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (file.size, file.modified):
            raise InputError(f"{file.path} has changed since the job began; start again with another out folder")
        # Without these two, Arrow would hold a whole row group in memory.
        source = pq.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20)
        meta = source.metadata
        self._groups = [0, *accumulate(meta.row_group(g).num_rows for g in range(meta.num_row_groups))][:-1]
        group = max(g for g, start in enumerate(self._groups) if start <= row)
        self._batches = source.iter_batches(_ROWS_AT_ONCE, row_groups=range(group, meta.num_row_groups))
        self._open, self._rest, self._next = n, None, self._groups[group]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

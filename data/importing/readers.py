"""Reads Parquet, JSONL and CSV into Arrow columns, and knows which file and row every value came from.

    table = read_table(spec, Path("../shared/data"), ["item_id", "title"], "items")
    table.ids("item_id");  table.numbers("price");  table.where(3)      # "items.csv row 3 (line 5)"

Text tables are read as text, so that the id `007` stays `007`. Rows are counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reshelf.data.importing.files import LINE, Piece, concat, find_files, joined, read_pieces
from reshelf.data.importing.mapping import Table
from reshelf.errors import InputError

NO_TIME = np.iinfo(np.int64).min
_MISSING_NUMBERS = {"", "nan", "na", "n/a", "null", "none", "-", "—"}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass
class RawTable:
    """Columns of one mapped table, after `where`, with the place each row came from."""

    part: str
    """Its name in the mapping: items, events, lists.0, …"""
    columns: dict[str, pa.Array]
    files: list[Path]
    starts: list[int]
    """First row of each file in the numbering of `rows`."""
    rows: Int64
    """Original row of each kept row."""
    lines: Int64 | None
    """Line of each row of `rows`' numbering, from `first` on, in its text file; None for Parquet."""
    n_read: int
    """Rows before `where`."""
    first: int = 0
    """The row that `lines` begins with: not 0 for a later piece of a table."""

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, i: int) -> str:
        """`events.csv row 4 (line 6)` for the kept row `i`."""
        row = int(self.rows[i])
        which = int(np.searchsorted(self.starts, row, side="right")) - 1
        line = f" (line {self.lines[row - self.first]})" if self.lines is not None else ""
        return f"{self.files[which]} row {row - self.starts[which]}{line}"

    def fail(self, i: int, column: str, what: str) -> NoReturn:
        raise InputError(f"{self.place(i)}, field {column}: {what}")

    def ids(self, column: str, required: bool = True) -> pa.StringArray:
        """A column as ids. Whole-number floats (as pandas leaves them beside missing values) become whole numbers.

        Raises:
            InputError: an id is missing and `required`.
        """
        values = self._column(column)
        if pa.types.is_floating(values.type):
            numbers = values.to_numpy(zero_copy_only=False)
            finite = np.isfinite(numbers)
            if bool(np.all(numbers[finite] == np.floor(numbers[finite]))):
                whole = np.where(finite, numbers, 0).astype(np.int64)
                values = pa.array(whole, mask=~finite)
        if pa.types.is_nested(values.type):
            self.fail(0, column, "holds lists, expected one id per row")
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
        missing = pc.fill_null(pc.equal(text, ""), True).to_numpy(zero_copy_only=False)
        if missing.any():
            if required:
                self.fail(int(np.argmax(missing)), column, "the id is missing; give one or drop the row")
            text = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), text)
        return text

    def texts(self, column: str) -> list[str | None]:
        """A column as text; missing, empty and NaN are None."""
        return self.text(column).to_pylist()

    def text(self, column: str) -> pa.StringArray:
        """`texts` as an Arrow column; what is missing is null."""
        values = self._column(column)
        if pa.types.is_nested(values.type):
            return pa.array([joined(v) or None for v in values.to_pylist()], pa.string())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)

    def lists(self, column: str, separator: str) -> list[list[Any] | None]:
        """A list column; text is divided at `separator`."""
        values = self._column(column)
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            return values.to_pylist()
        if pa.types.is_null(values.type):
            return [None] * len(values)
        if not pa.types.is_string(values.type):
            self.fail(0, column, f"is {values.type}, expected lists")
        return [[part.strip() for part in v.split(separator)] if v else None for v in values.to_pylist()]

    def numbers(self, column: str, problem: Callable[[int, str], None] | None = None) -> Float64:
        """A column as float64, NaN for missing. Text that is no number goes to `problem` (default: an error)."""
        values = self._column(column)
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type):
            return np.array(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        if pa.types.is_null(values.type):
            return np.full(len(values), np.nan)
        if not (pa.types.is_string(values.type) or pa.types.is_decimal(values.type)):
            self.fail(0, column, f"is {values.type}, expected numbers")
        text = pc.cast(values, pa.string())
        try:
            return np.array(pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        except pa.ArrowInvalid:
            pass  # something in it is no plain number; value by value, then
        result = np.full(len(values), np.nan)
        for i, value in enumerate(text.to_pylist()):
            if value is None or value.strip().lower() in _MISSING_NUMBERS:
                continue
            try:
                result[i] = float(value.strip().lstrip("$€£"))
            except ValueError:
                if problem is None:
                    self.fail(i, column, f"{value!r} is not a number")
                problem(i, value)
        return result

    def times(self, column: str, unit: str) -> Int64:
        """A column as microseconds since 1970 UTC; `NO_TIME` where missing.

        Raises:
            InputError: a value that is no time.
        """
        values = self._column(column)
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            # not safe: a log in nanoseconds loses what lies below a microsecond
            moments = pc.cast(values, pa.timestamp("us", tz=getattr(values.type, "tz", None)), safe=False)
            micro = pc.cast(moments, pa.int64())
            return np.asarray(pc.fill_null(micro, NO_TIME).to_numpy(zero_copy_only=False), dtype=np.int64)
        result = np.full(len(values), NO_TIME, dtype=np.int64)
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            numbers = self.numbers(column)
            good = np.isfinite(numbers) & (np.abs(numbers) < 9e18 / (1_000_000 // _PER_SECOND[unit]))
            result[good] = (numbers[good] * (1_000_000 // _PER_SECOND[unit])).astype(np.int64)
            return result
        for i, value in enumerate(pc.cast(values, pa.string()).to_pylist()):
            if value is not None and value.strip():
                result[i] = self._time(i, column, value.strip(), unit)
        return result

    def _time(self, i: int, column: str, value: str, unit: str) -> int:
        try:
            return parse_time(value, unit)
        except (ValueError, OverflowError):
            self.fail(i, column, f"{value!r} is not a time; give ISO 8601 or a number of {unit} since 1970")

    def _column(self, column: str) -> pa.Array:
        return self.columns[column]


def parse_time(value: Any, unit: str) -> int:
    """One time (datetime, ISO 8601 text or number of `unit` since 1970) as microseconds since 1970 UTC."""
    if isinstance(value, int | float):
        return int(value * (1_000_000 // _PER_SECOND[unit]))
    if isinstance(value, str):
        number = value.replace(".", "", 1).removeprefix("-")
        if number.isdigit():
            return int(float(value) * (1_000_000 // _PER_SECOND[unit]))
        value = datetime.fromisoformat(value)
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_datetime(micro: int) -> datetime | None:
    """Microseconds since 1970 as a UTC datetime; None for `NO_TIME`."""
    return (
        None
        if micro == NO_TIME
        else datetime.fromtimestamp(micro // 1_000_000, UTC).replace(microsecond=micro % 1_000_000)
    )


def read_table(spec: Table, root: Path, columns: Iterable[str], part: str) -> RawTable:
    """Read the named columns (and those of `where`) of all files of a table.

    Raises:
        InputError: no such file, an unreadable file or line, or a column that is not there.
    """
    wanted = list(dict.fromkeys([*columns, *spec.where]))
    files = find_files(spec, root, part)
    pieces, starts, total = [], [], 0
    for file in files:
        piece = next(read_pieces(file, spec, wanted, part))
        starts.append(total)
        total += len(piece[wanted[0]])
        pieces.append(piece)
    merged = {name: concat([p[name] for p in pieces]) for name in wanted}
    if all(LINE in p for p in pieces):
        merged[LINE] = pa.concat_arrays([p[LINE] for p in pieces])
    return _chosen(spec, part, merged, files, starts, 0)


def read_batches(spec: Table, root: Path, columns: Iterable[str], part: str, size: int) -> Iterator[RawTable]:
    """`read_table` in pieces of at most `size` rows, none of them over two files; rows are numbered through.

    Raises:
        InputError: as `read_table`, when it comes to the mistake.
    """
    wanted = list(dict.fromkeys([*columns, *spec.where]))
    files, starts, total = find_files(spec, root, part), [], 0
    for file in files:
        starts.append(total)
        for piece in read_pieces(file, spec, wanted, part, size):
            yield _chosen(spec, part, piece, files[: len(starts)], starts, total)
            total += len(piece[wanted[0]])


def _chosen(spec: Table, part: str, piece: Piece, files: list[Path], starts: list[int], first: int) -> RawTable:
    """The rows that `where` accepts."""
    columns = {name: column for name, column in piece.items() if name != LINE}
    lines = piece[LINE].to_numpy() if LINE in piece else None
    total = len(next(iter(columns.values())))
    keep = np.ones(total, dtype=bool)
    for name, accepted in spec.where.items():
        values = accepted if isinstance(accepted, list) else [accepted]
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        keep &= pc.is_in(pc.cast(columns[name], pa.string()), value_set=pa.array(texts)).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(keep)
    if len(rows) < total:
        index = pa.array(rows)
        columns = {name: column.take(index) for name, column in columns.items()}
    return RawTable(part, columns, files, list(starts), rows + first, lines, total, first)

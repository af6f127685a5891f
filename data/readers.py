"""Reads Parquet, JSONL and CSV into Arrow columns, and knows which file and row every value came from.

    table = read_table(spec, Path("../shared/data"), ["item_id", "title"], "items")
    table.ids("item_id");  table.numbers("price");  table.where(3)      # "items.csv row 3 (line 5)"

Text tables are read as text, so that the id `007` stays `007`. Rows are counted from 0.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reshelf.data.mapping import Table
from reshelf.errors import InputError

_LINE = ""  # no column is called this; the line numbers of a text file travel under it
NO_TIME = np.iinfo(np.int64).min
_MISSING_NUMBERS = {"", "nan", "na", "n/a", "null", "none", "-", "—"}
_CSV_READER = type(csv.reader([]))
_TEXT_ENDINGS = {".csv": ",", ".tsv": "\t", ".dat": ",", ".txt": ","}
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
    """Line of each row of `rows`' numbering in its text file; None for Parquet."""
    n_read: int
    """Rows before `where`."""

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, i: int) -> str:
        """`events.csv row 4 (line 6)` for the kept row `i`."""
        row = int(self.rows[i])
        which = int(np.searchsorted(self.starts, row, side="right")) - 1
        line = f" (line {self.lines[row]})" if self.lines is not None else ""
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
        values = self._column(column)
        if pa.types.is_nested(values.type):
            joined = [_join(v) for v in values.to_pylist()]
            return [v or None for v in joined]
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return [v or None for v in pc.utf8_trim_whitespace(pc.cast(values, pa.string())).to_pylist()]

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
        result = np.full(len(values), np.nan)
        for i, value in enumerate(pc.cast(values, pa.string()).to_pylist()):
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


def find_files(spec: Table, root: Path, part: str) -> list[Path]:
    """The files a table's `file` stands for, in name order.

    Raises:
        InputError: there are none.
    """
    path = root / spec.file
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
    elif any(c in spec.file for c in "*?["):
        base = Path(root.anchor) if Path(spec.file).is_absolute() else root
        files = sorted(
            p for p in base.glob(str(Path(spec.file).relative_to(base) if Path(spec.file).is_absolute() else spec.file))
        )
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise InputError(f"{path} is not there; correct {part}.file in the mapping, or give the right --root")
    return files


def read_table(spec: Table, root: Path, columns: Iterable[str], part: str) -> RawTable:
    """Read the named columns (and those of `where`) of all files of a table.

    Raises:
        InputError: no such file, an unreadable file or line, or a column that is not there.
    """
    wanted = list(dict.fromkeys([*columns, *spec.where]))
    files = find_files(spec, root, part)
    pieces, starts, total = [], [], 0
    for file in files:
        piece = _READERS[_kind(file)](file, spec, wanted, part)
        starts.append(total)
        total += len(piece[wanted[0]])
        pieces.append(piece)
    merged = {name: _concat([p[name] for p in pieces]) for name in wanted}
    lines = np.concatenate([p[_LINE].to_numpy() for p in pieces]) if all(_LINE in p for p in pieces) else None
    keep = np.ones(total, dtype=bool)
    for name, accepted in spec.where.items():
        values = accepted if isinstance(accepted, list) else [accepted]
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        keep &= pc.is_in(pc.cast(merged[name], pa.string()), value_set=pa.array(texts)).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(keep)
    if len(rows) < total:
        index = pa.array(rows)
        merged = {name: column.take(index) for name, column in merged.items()}
    return RawTable(part, merged, files, starts, rows, lines, total)


def _kind(file: Path) -> str:
    endings = [s.lower() for s in file.suffixes if s.lower() != ".gz"]
    ending = endings[-1] if endings else ""
    if ending in (".parquet", ".pq"):
        return "parquet"
    if ending in (".jsonl", ".json", ".ndjson"):
        return "jsonl"
    if ending in _TEXT_ENDINGS:
        return "text"
    raise InputError(f"{file}: unknown kind of file; use .parquet, .jsonl, .csv, .tsv, .dat or .txt (each also .gz)")


def _need(file: Path, there: Iterable[str], wanted: list[str], part: str) -> None:
    there = list(there)
    for name in wanted:
        if name not in there:
            raise InputError(
                f"{file}: there is no column {name!r} (there are {', '.join(there)}); correct {part} in the mapping"
            )


def _read_parquet(file: Path, spec: Table, wanted: list[str], part: str) -> dict[str, pa.Array]:
    try:
        source = pq.ParquetFile(file)
        _need(file, source.schema_arrow.names, wanted, part)
        table = source.read(wanted).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    return {name: _one(table.column(name)) for name in wanted}


def _read_jsonl(file: Path, spec: Table, wanted: list[str], part: str) -> dict[str, pa.Array]:
    values: dict[str, list[Any]] = {name: [] for name in wanted}
    seen: set[str] = set()
    numbers: list[int] = []
    for number, line in enumerate(_lines(file, spec.encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{file} line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise InputError(f"{file} line {number} is not a JSON object")
        seen.update(row)
        numbers.append(number)
        for name in wanted:
            values[name].append(row.get(name))
    if not seen.issuperset(wanted):
        _need(file, sorted(seen), wanted, part)
    return {name: _from_python(column) for name, column in values.items()} | {_LINE: pa.array(numbers, pa.int64())}


def _read_text(file: Path, spec: Table, wanted: list[str], part: str) -> dict[str, pa.Array]:
    endings = [s.lower() for s in file.suffixes if s.lower() != ".gz"]
    separator = spec.separator or _TEXT_ENDINGS[endings[-1]]
    lines = _lines(file, spec.encoding)
    rows: Any
    if len(separator) == 1:
        csv.field_size_limit(1 << 30)
        rows = csv.reader(lines, delimiter=separator)
    else:
        rows = (line.rstrip("\r\n").split(separator) for line in lines)
    header = spec.header or next(rows, [])
    if header and not spec.header:
        header[0] = header[0].removeprefix("\ufeff")
    _need(file, header, wanted, part)
    places = [header.index(name) for name in wanted]
    columns: list[list[str | None]] = [[] for _ in wanted]
    numbers: list[int] = []
    line = 0 if spec.header else 1
    for row in rows:
        line = rows.line_num if isinstance(rows, _CSV_READER) else line + 1
        if not row or row == [""]:
            continue
        if len(row) != len(header):
            raise InputError(
                f"{file} line {line}: {len(row)} columns where the header has {len(header)}; "
                "quote the separator inside values"
            )
        for column, place in zip(columns, places):
            column.append(row[place] or None)
        numbers.append(line)
    result = {name: pa.array(column, pa.string()) for name, column in zip(wanted, columns)}
    return result | {_LINE: pa.array(numbers, pa.int64())}


_READERS = {"parquet": _read_parquet, "jsonl": _read_jsonl, "text": _read_text}


def _lines(file: Path, encoding: str) -> Iterator[str]:
    opener = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        with opener(file, "rt", encoding=encoding, newline="") as text:
            yield from text
    except (UnicodeDecodeError, LookupError) as error:
        raise InputError(f"{file} is not {encoding} text; set its encoding in the mapping ({error})") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}") from error


def _from_python(values: list[Any]) -> pa.Array:
    """JSON values as Arrow; a column of mixed kinds becomes text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else _join(v) if isinstance(v, list | dict) else str(v) for v in values])


def _join(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(v) for v in value if v is not None)
    if isinstance(value, dict):
        return "; ".join(f"{k}: {v}" for k, v in value.items() if v is not None)
    return "" if value is None else str(value)


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return pc.cast(array, pa.string()) if pa.types.is_large_string(array.type) else array


def _concat(arrays: list[pa.Array]) -> pa.Array:
    if len({a.type for a in arrays}) == 1:
        return pa.concat_arrays(arrays)
    return pa.concat_arrays([pc.cast(a, pa.string()) for a in arrays])

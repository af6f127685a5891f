"""Files of a mapped table as Arrow columns, whole or in pieces: Parquet, JSONL and CSV, each also over several files.

    for piece in read_pieces(file, spec, ["item_id", "title"], "items"): ...     # {"item_id": pa.Array, …}

Text tables are read as text, so that the id `007` stays `007`; their line numbers travel under `LINE`.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reshelf.data.importing.mapping import Table
from reshelf.errors import InputError

LINE = ""  # no column is called this; the line numbers of a text file travel under it
Piece = dict[str, pa.Array]
_CSV_READER = type(csv.reader([]))
_TEXT_ENDINGS = {".csv": ",", ".tsv": "\t", ".dat": ",", ".txt": ","}


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


def read_pieces(file: Path, spec: Table, wanted: list[str], part: str, size: int | None = None) -> Iterator[Piece]:
    """The wanted columns in pieces of `size` rows; without it the file is one piece, even where it is empty.

    Raises:
        InputError: an unreadable file or line, or a column that is not there.
    """
    return _READERS[_kind(file)](file, spec, wanted, part, size)


def count_rows(files: Sequence[Path]) -> int | None:
    """How many rows the files hold, where that costs nothing to know (Parquet)."""
    if any(_kind(file) != "parquet" for file in files):
        return None
    try:
        return sum(pq.read_metadata(file).num_rows for file in files)
    except (pa.ArrowException, OSError):
        return None  # reading it says what is wrong


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


def _read_parquet(file: Path, spec: Table, wanted: list[str], part: str, size: int | None) -> Iterator[Piece]:
    try:
        source = pq.ParquetFile(file)
        _need(file, source.schema_arrow.names, wanted, part)
        if size is None:
            tables = iter([source.read(wanted)])
        else:
            tables = (pa.Table.from_batches([batch]) for batch in source.iter_batches(size, columns=wanted))
        for table in tables:
            yield {name: _one(table.column(name)) for name in wanted}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())}") from error


def _read_jsonl(file: Path, spec: Table, wanted: list[str], part: str, size: int | None) -> Iterator[Piece]:
    values: dict[str, list[Any]] = {name: [] for name in wanted}
    seen: set[str] = set()
    numbers: list[int] = []

    def piece() -> Piece:
        result = {name: _from_python(column) for name, column in values.items()}
        return result | {LINE: pa.array(numbers, pa.int64())}

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
        if size is not None and len(numbers) >= size and seen.issuperset(wanted):
            yield piece()
            values, numbers = {name: [] for name in wanted}, []
    if not seen.issuperset(wanted):
        _need(file, sorted(seen), wanted, part)
    if numbers or size is None:
        yield piece()


def _read_text(file: Path, spec: Table, wanted: list[str], part: str, size: int | None) -> Iterator[Piece]:
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
    kept: list[list[str]] = []
    numbers: list[int] = []

    def piece() -> Piece:
        columns = {name: pa.array([row[at] or None for row in kept], pa.string()) for name, at in zip(wanted, places)}
        return columns | {LINE: pa.array(numbers, pa.int64())}

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
        kept.append(row)
        numbers.append(line)
        if len(kept) == size:
            yield piece()
            kept, numbers = [], []
    if kept or size is None:
        yield piece()


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
        return pa.array([None if v is None else joined(v) if isinstance(v, list | dict) else str(v) for v in values])


def joined(value: Any) -> str:
    """A JSON value as text."""
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


def concat(arrays: list[pa.Array]) -> pa.Array:
    if len({a.type for a in arrays}) == 1:
        return pa.concat_arrays(arrays)
    return pa.concat_arrays([pc.cast(a, pa.string()) for a in arrays])

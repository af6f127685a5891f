"""Text files read line by line, for what DuckDB does not say: the header, and on which line a row ends; and copied in
utf-8, where DuckDB does not read their encoding or packing.

next(records(opened(file, spec), ",", '"'))       # the header
line_of(file, spec, row=3)                          # 5: the header is line 1
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa

from reshelf.data.importing.mapping import Table
from reshelf.errors import InputError

TEXT = (".csv", ".tsv", ".dat", ".txt")
JSON = (".jsonl", ".ndjson", ".json")
_PACKED = (".gz", ".zst", ".zstd", ".bz2")
_NATIVE = {"utf-8": "utf-8-sig", "utf-16": "utf-16"}
"""Encodings that DuckDB reads by itself, and what Python calls them."""
_FIRST_LINES = 50
UNPACKING = (OSError, EOFError, zlib.error)
"""What Python raises for a packed file that is cut off or is none."""
LINE_LIMIT = 1 << 24
"""The longest line or JSON object."""


def ending_of(file: Path) -> str:
    endings = [s.lower() for s in file.suffixes if s.lower() not in _PACKED]
    return endings[-1] if endings else ""


def encoding_of(spec: Table) -> str:
    """The encoding as Python calls it. What says latin-1 mostly is Windows' own, which has more signs: €, ’, –.

    Raises:
        InputError: there is none of that name.
    """
    try:
        name = codecs.lookup(spec.encoding).name
    except LookupError as error:
        raise InputError(f"{spec.encoding!r} is no encoding; use utf-8, utf-16, latin-1, gbk, shift_jis, …") from error
    return {"utf-8-sig": "utf-8", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}.get(name, name)


def opened(file: Path, spec: Table) -> IO[str]:
    """A text file of any encoding, packed or not."""
    encoding, ending = encoding_of(spec), file.suffix.lower()
    encoding = _NATIVE.get(encoding, encoding)
    if ending == ".gz":
        return gzip.open(file, "rt", encoding=encoding, newline="")
    if ending == ".bz2":
        return bz2.open(file, "rt", encoding=encoding, newline="")
    if ending in (".zst", ".zstd"):
        stream = pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")
        return io.TextIOWrapper(stream, encoding=encoding, newline="")
    return file.open(encoding=encoding, newline="")


def readable(folder: Path, root: Path, file: Path, spec: Table) -> tuple[Path, str]:
    """A file as DuckDB can read it, the file itself or a copy in utf-8 below `folder`; and the options that say how.

    Raises:
        InputError: it is not text of that encoding.
    """
    encoding, ending = encoding_of(spec), file.suffix.lower()
    if encoding in _NATIVE and ending not in (".zst", ".zstd", ".bz2"):
        return root / file, f"encoding = '{encoding}'"
    copy = folder / "plain" / file
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opened(root / file, spec) as text, copy.open("w", encoding="utf-8", newline="") as out:
                shutil.copyfileobj(text, out, 1 << 20)
        except UnicodeDecodeError as error:
            raise not_text(root / file, spec, error) from error
        except UNPACKING as error:
            raise cut_off(root / file, error) from error
    return copy, "encoding = 'utf-8', compression = 'none'"


def cut_off(file: Path, error: object) -> InputError:
    return InputError(f"{file} cannot be read: {error}; write or copy that file again")


def not_text(file: Path, spec: Table, error: object) -> InputError:
    what = f"{file} is not {spec.encoding} text; set its encoding in the mapping, such as latin-1 or gbk ({error})"
    return InputError(what)


def header_line(file: Path, spec: Table, separator: str, quote: str, names: list[str]) -> int | None:
    """The number of lines above the one that has all these names, where that is among the first."""
    with opened(file, spec) as text:
        for above, line in enumerate(islice(text, _FIRST_LINES)):
            for sign in (separator, ",", ";", "\t", "|"):
                if names and set(names) <= set(next(records(iter([line]), sign, quote), [])):
                    return above
    return None


def dialect(file: Path, spec: Table) -> tuple[str, str]:
    """Separator and quotation mark of a text file."""
    separator = spec.separator or ("\t" if ending_of(file) == ".tsv" else None)
    if separator is None:
        with opened(file, spec) as text:
            first = re.sub(r'"[^"]*"', "", next(islice(text, spec.skip_lines, None), ""))
        separator = max((",", ";", "\t", "|"), key=first.count)  # of equals, or none, the comma
    return separator, spec.quote if spec.quote is not None else "" if separator == "\t" or len(separator) > 1 else '"'


def records(text: Iterator[str], separator: str, quote: str, escape: str | None = None) -> Iterator[list[str]]:
    """The rows of a text file, as Python's csv reads them."""
    if len(separator) > 1:
        return (line.rstrip("\r\n").split(separator) for line in text)
    csv.field_size_limit(1 << 30)
    if not quote:
        return csv.reader(text, delimiter=separator, quotechar=None, quoting=csv.QUOTE_NONE)
    if escape and escape != quote:
        return csv.reader(text, delimiter=separator, quotechar=quote, escapechar=escape, doublequote=False)
    return csv.reader(text, delimiter=separator, quotechar=quote)


def json_form(file: Path, spec: Table) -> Literal["array", "newline_delimited", "unstructured"]:
    """How a JSON file is written, in DuckDB's words; unstructured: its objects go over several lines, or stand behind
    each other on one."""
    with opened(file, spec) as text:
        if text.read(1000).lstrip("\ufeff \t\r\n").startswith("["):
            return "array"
    with opened(file, spec) as text:
        line = next((line for line in text if line.strip("\ufeff \t\r\n")), "").lstrip("\ufeff")
    if line.lstrip().startswith("{"):
        try:
            json.loads(line)
        except json.JSONDecodeError as error:
            if error.msg == "Extra data" or error.pos >= len(line.rstrip()):
                return "unstructured"
    return "newline_delimited"


def line_of(file: Path, spec: Table, row: int) -> int | None:
    """The line on which a row of a text or JSON file ends."""
    ending = ending_of(file)
    if ending in JSON:
        if json_form(file, spec) != "newline_delimited":
            return None
        with opened(file, spec) as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    row -= 1
                    if row < 0:
                        return number
    if ending not in TEXT:
        return None
    separator, quote = dialect(file, spec)
    with opened(file, spec) as text:
        rows = records(islice(text, spec.skip_lines, None), separator, quote, spec.escape)
        skip = 0 if spec.header else 1
        end = 0
        for record in rows:
            end = getattr(rows, "line_num", end + 1)
            if not record or record == [""]:
                continue
            if skip:
                skip -= 1
                continue
            row -= 1
            if row < 0:
                return int(end) + spec.skip_lines
    return None

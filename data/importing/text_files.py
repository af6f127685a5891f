"""Text files read line by line, for what DuckDB does not say: the header, and on which line a row ends.

next(records(opened(file, spec), ",", '"'))       # the header
line_of(file, spec, row=3)                          # 5: the header is line 1
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from reshelf.data.importing.mapping import Table
from reshelf.errors import InputError

TEXT = (".csv", ".tsv", ".dat", ".txt")
JSON = (".jsonl", ".ndjson", ".json")
ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "latin-1": "latin-1", "latin1": "latin-1", "utf-16": "utf-16"}
ENCODINGS |= {"iso-8859-1": "latin-1", "utf16": "utf-16", "utf-8-sig": "utf-8"}


def ending_of(file: Path) -> str:
    endings = [s.lower() for s in file.suffixes if s.lower() != ".gz"]
    return endings[-1] if endings else ""


def opened(file: Path, spec: Table) -> IO[str]:
    encoding = ENCODINGS.get(spec.encoding.lower(), spec.encoding)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        if file.suffix.lower() == ".gz":
            return gzip.open(file, "rt", encoding=encoding, newline="")
        return file.open(encoding=encoding, newline="")
    except LookupError as error:
        raise InputError(f"{file}: {spec.encoding!r} is no encoding; use utf-8, latin-1 or utf-16") from error


def dialect(file: Path, spec: Table) -> tuple[str, str]:
    """Separator and quotation mark of a text file."""
    separator = spec.separator or ("\t" if ending_of(file) == ".tsv" else None)
    if separator is None:
        with opened(file, spec) as text:
            first = re.sub(r'"[^"]*"', "", text.readline())
        separator = max((",", ";", "\t", "|"), key=first.count)  # of equals, or none, the comma
    return separator, spec.quote if spec.quote is not None else "" if separator == "\t" or len(separator) > 1 else '"'


def records(text: IO[str], separator: str, quote: str) -> Iterator[list[str]]:
    """The rows of a text file, as Python's csv reads them."""
    if len(separator) > 1:
        return (line.rstrip("\r\n").split(separator) for line in text)
    csv.field_size_limit(1 << 30)
    if not quote:
        return csv.reader(text, delimiter=separator, quotechar=None, quoting=csv.QUOTE_NONE)
    return csv.reader(text, delimiter=separator, quotechar=quote)


def line_of(file: Path, spec: Table, row: int) -> int | None:
    """The line on which a row of a text or JSON file ends."""
    ending = ending_of(file)
    if ending in JSON:
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
        rows = records(text, separator, quote)
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
                return int(end)
    return None

"""The text of a table's SELECT: paths that start from the root, and where in it a mistake is.

query, added = rooted("SELECT * FROM 'events.csv'", Path("/logs"))       # … FROM '/logs/events.csv'
located(error, added)                                            # "line 1, column 8: …", of the text as it was
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import duckdb

from reshelf.data.importing.database import quoted
from reshelf.errors import is_full_disk

_NOT_WHOLE = re.compile(r"magic bytes|too small to be a Parquet|TProtocol|[Dd]ecompress|corrupted")
_READS = re.compile(rb"(read|sniff)_\w+|\w+_scan|glob")


def kinds(statements: Sequence[duckdb.Statement]) -> str:
    """`SELECT and UPDATE`: of which kinds some statements are."""
    return " and ".join(str(one.type).rsplit(".", 1)[-1] for one in statements) or "nothing"


def located(error: duckdb.Error, added: Sequence[tuple[int, int, int]] = ()) -> str:
    """DuckDB's message in one line, with line and column of the SQL before anything was `added` (see `rooted`)."""
    text = str(error)
    message = " ".join(text.split("\n\nLINE ")[0].split()).replace(
        "file system operations are disabled by configuration",
        "only files below the root can be read, by a path behind FROM or JOIN or in a function that reads",
    )
    found = re.search(r"\nLINE (\d+): (.*)\n( *)\^", text)
    if not found:
        return message
    line, column = int(found[1]), len(found[3]) - len(f"LINE {found[1]}: ") + 1
    before = sum(length for at, start, length in added if at == line and start < column)
    return f"line {line}, column {max(column - before, 1)}: {message}"


def rooted(sql: str, root: Path) -> tuple[str, list[tuple[int, int, int]]]:
    """A SELECT whose relative paths start from the root; and where what was added stands: line, column, length.

    A path is a text that is read from (`FROM 'a.csv'`), or the first argument of a function that reads
    (`read_csv('a.csv')`, `read_parquet(['a.parquet', 'b.parquet'])`).
    """
    code = sql.encode()  # tokens are counted in bytes
    tokens = duckdb.tokenize(sql)
    ends = [at for at, _ in tokens[1:]] + [len(code)]
    added: list[tuple[int, int, int]] = []
    result, done, before, reads, listed = "", 0, b"", False, False
    for (at, kind), end in zip(tokens, ends):
        word = code[at:end].strip().lower()
        if kind == duckdb.token_type.comment:
            continue
        if kind == duckdb.token_type.string_const and word[:1] == b"'" and (reads or before in (b"from", b"join")):
            path = code[at + 1 : end].decode()
            if not re.match(r"/|[a-zA-Z0-9]+:", path):
                result += code[done : at + 1].decode()
                lines = result.split("\n")
                added.append((len(lines), len(lines[-1]), len(str(root)) + 1))
                result, done = result + quoted(f"{root}/")[1:-1], at + 1
        elif word == b"(":
            reads, listed = bool(_READS.fullmatch(before)), False
        else:
            listed = word == b"[" or (listed and word == b",")
            reads = reads and listed
        before = word
    return result + code[done:].decode(), added


def one_line(error: Exception) -> str:
    """What DuckDB says first; of a value that cannot be converted also the column and the value."""
    first, *rest = str(error).split("\n\n")[0].split("\n")
    return " ".join(" ".join((first, *(line for line in rest if line.startswith("Error when converting")))).split())


def cured(error: duckdb.Error, message: str, cure: str = "correct the mapping") -> str:
    """The message and what to do: nothing in a mapping helps against a full disk or a Parquet file that was cut off."""
    if is_full_disk(error):
        return f"{message}; make room there"
    if "No files found" in str(error):
        return f"{message}; put them there, or correct the mapping"
    return f"{message}; {'write or copy that file again' if _NOT_WHOLE.search(str(error)) else cure}"

"""What is wrong with JSON files: a key that no row has, a line that is no object."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from reshelf.data.importing.database import Work, named, quoted
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.sql_text import one_line
from reshelf.data.importing.text_files import opened
from reshelf.errors import InputError


def check_keys(work: Work, everything: str, names: list[str], file: Path, part: str, files: list[Path]) -> None:
    """Every wanted key must be in some row."""
    tests = ", ".join(
        f"bool_or(coalesce(json_extract(json, {quoted('$.' + named(n))}), "
        f"json_extract(json, {quoted('$.' + '.'.join(named(s) for s in n.split('.')))})) IS NOT NULL)"
        for n in names
    )
    try:
        for limit in (" LIMIT 1000", ""):
            found = work.fetch(
                f"SELECT {tests}, count(*), bool_and(json_type(json) = 'OBJECT') FROM (FROM ({everything}){limit})"
            )
            *there, count, objects = found[0]
            if count and not objects:
                break
            if all(there) or not count:
                return
        if not objects:
            raise InputError(f"{bad_json(work.root, files)}")
        keys = [
            k
            for (k,) in work.fetch(
                f"SELECT DISTINCT unnest(json_keys(json)) FROM (FROM ({everything}) LIMIT 1000) ORDER BY 1"
            )
        ]
    except duckdb.Error as error:
        raise InputError(bad_json(work.root, files) or f"{file} cannot be read: {one_line(error)}") from error
    missing = next(name for name, yes in zip(names, there) if not yes)
    raise InputError(
        f"{file}: there is no column {missing!r} (there are {', '.join(keys)}); correct {part} in the mapping"
    )


def bad_json(root: Path, files: list[Path]) -> str:
    """What is wrong with the first bad line of JSON files."""
    for file in files:
        with opened(root / file, Table()) as text:
            for number, line in enumerate(text, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.removeprefix("\ufeff"))
                except json.JSONDecodeError as error:
                    return f"{root / file} line {number} is not JSON: {error.msg}"
                if not isinstance(row, dict):
                    return f"{root / file} line {number} is not a JSON object"
    return ""

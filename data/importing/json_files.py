"""JSON files: the SELECT that reads them, a key that no row has, a line that is no object.

    body = json_rows(work, spec, [Path("clicks.jsonl")], "events", ["user", "payload.sku"])    # one JSON column each

A file may be one of lines, one array, or objects one behind the other, over any number of lines. A dotted path goes
into objects, into text that is JSON, and into lists of objects, of which it gives the list of parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import duckdb

from reshelf.data.importing.database import Work, named, quoted
from reshelf.data.importing.found_files import partition_of
from reshelf.data.importing.json_paths import in_list, in_text, json_path
from reshelf.data.importing.mapping import Table, id_columns
from reshelf.data.importing.sql_text import one_line
from reshelf.data.importing.text_files import LINE_LIMIT, UNPACKING, cut_off, json_form, not_text, opened, readable
from reshelf.errors import InputError

_FILES, _OBJECTS = 20, 1000
"""How many are looked at for keys."""


def json_rows(work: Work, spec: Table, files: list[Path], part: str, names: list[str]) -> str:
    """A sub-select over JSON files with one JSON column for each name.

    Raises:
        InputError: a key that no row has, a line that is no object.
    """
    folders = [partition_of(work.root / file) for file in files]
    shared = [name for name in names if all(name in keys for keys in folders)]
    everything = " UNION ALL ".join(
        f"SELECT json{''.join(f', {_said(keys[name])} AS ' + named('folder ' + name) for name in shared)} "
        f"FROM ({_objects(work, spec, file)})"
        for file, keys in zip(files, folders)
    )
    if not names:
        return f"(SELECT 1 AS one FROM ({everything}))"
    paths = list(dict.fromkeys(path for name in names for path in _paths(name)))
    found = f"SELECT *, json_extract(json, [{', '.join(paths)}]) AS parts FROM ({everything})"  # reads the text once
    inside = {name: _inside(name, paths) for name in names}
    missing = _missing(work, spec, found, inside, part, files)
    if lost := [name for name in missing if name not in shared]:
        raise InputError(_no_column(work, everything, lost[0], work.root / files[0], part))
    columns = [f"{named('folder ' + n) if n in missing else inside[n]} AS {named('column ' + n)}" for n in names]
    return f"(SELECT {', '.join(columns)} FROM ({found}))"


def _objects(work: Work, spec: Table, file: Path) -> str:
    """A SELECT of a file's objects, as `json`."""
    path, options = readable(work.folder, work.root, file, spec)
    at = quoted(str(path))
    try:
        form = json_form(work.root / file, spec)
    except UnicodeDecodeError as error:
        raise not_text(work.root / file, spec, error) from error
    except UNPACKING as error:
        raise cut_off(work.root / file, error) from error
    if form != "newline_delimited":
        packed = ", compression = 'none'" if "compression" in options else ""
        return (
            f"SELECT json FROM read_json_objects({at}, format = '{form}', maximum_object_size = {LINE_LIMIT}{packed})"
        )
    lines = (  # line by line, as DuckDB's reader of JSON stops at half a surrogate pair
        f"read_csv({at}, auto_detect = false, header = false, delim = '\x01', quote = '', escape = '', "
        f"columns = {{'line': 'VARCHAR'}}, hive_partitioning = false, max_line_size = {LINE_LIMIT}, {options})"
    )
    half = "regexp_matches(line, '\\\\u[dD][89a-fA-F]')"
    return (
        f"SELECT CAST(CASE WHEN {half} THEN whole_json(line) ELSE line END AS JSON) AS json FROM {lines} "
        "WHERE line IS NOT NULL AND trim(line) NOT IN ('', 'null')"  # Kafka's mark of a deleted row
    )


def first_objects(work: Work, spec: Table, files: list[Path]) -> Iterator[dict[str, Any]]:
    """The first objects of the first files."""
    for file in files[:_FILES]:
        for (text,) in work.fetch(f"SELECT CAST(json AS VARCHAR) FROM ({_objects(work, spec, file)}) LIMIT {_OBJECTS}"):
            yield json.loads(text)


def _said(value: str | None) -> str:
    return "CAST(NULL AS JSON)" if value is None else f"to_json({quoted(value)})"


def _paths(name: str) -> list[str]:
    """Where in an object a name may be: as a key, and as a dotted path."""
    return list(dict.fromkeys((json_path([name]), json_path(name.split(".")))))


def _inside(name: str, paths: list[str]) -> str:
    """SQL of a key, or of a dotted path into objects, lists of objects and text that is JSON.

    Args:
        paths: what the list `parts` holds the values of.
    """
    steps, ways = name.split("."), [f"parts[{paths.index(path) + 1}]" for path in _paths(name)]
    for at in range(1, len(steps)):
        head = f"json_extract(json, {json_path(steps[:at])})"
        ways.append(in_list(head, steps[at:]))
        text = in_text(f"({head} ->> '$')", ".".join(steps[at:]))
        ways.append(f"CASE WHEN json_type({head}) = 'VARCHAR' THEN {text} END")
    return ways[0] if len(ways) == 1 else f"coalesce({', '.join(ways)})"


def _missing(
    work: Work, spec: Table, everything: str, inside: dict[str, str], part: str, files: list[Path]
) -> list[str]:
    """The names that no row has.

    Args:
        inside: names and their SQL.

    Raises:
        InputError: a name stands for objects, a line is none.
    """
    file = work.root / files[0]
    tests = [f"bool_or({value} IS NOT NULL)" for value in inside.values()]
    tests += [f"min(json_keys({value})[1]) FILTER (json_type({value}) = 'OBJECT')" for value in inside.values()]
    try:
        for limit in (" LIMIT 1000", ""):
            *found, count, objects = work.fetch(
                f"SELECT {', '.join(tests)}, count(*), bool_and(json_type(json) = 'OBJECT') "
                f"FROM (FROM ({everything}){limit})"
            )[0]
            there, nested = found[: len(inside)], found[len(inside) :]
            if count and not objects:
                none = f"{file}: an element of its list is not a JSON object; write one object for each row"
                raise InputError(bad_json(work.root, files, spec) or none)
            for name, key in zip(inside, nested):
                if key is not None and name not in id_columns(spec):
                    what = f"{file}: column {name!r} holds objects where plain values are expected"
                    raise InputError(
                        f"{what}; map a part of them in {part} ({name}.{key}), or take them apart with sql"
                    )
            if all(there) or not count:
                return []
    except duckdb.Error as error:
        raise InputError(
            bad_json(work.root, files, spec) or f"{file} cannot be read: {one_line(error)}; correct the file"
        ) from error
    return [name for name, yes in zip(inside, there) if not yes]


def _no_column(work: Work, everything: str, name: str, file: Path, part: str) -> str:
    """What to do about a key that no row has: it may be deeper."""
    rows = [json.loads(text) for (text,) in work.fetch(f"SELECT CAST(json AS VARCHAR) FROM ({everything}) LIMIT 100")]
    keys = list(dict.fromkeys(key for row in rows for key in sorted(row)))
    what = f"{file}: there is no column {name!r} (there are {', '.join(keys)})"
    steps = name.split(".")
    found = [one for row in rows for one in _deeper(row, steps[-1], ())]
    if not found:
        return f"{what}; correct {part} in the mapping"
    path, listed = max(found, key=lambda one: _agree(one[0], steps))
    if not listed:
        return f"{what}, but {'.'.join(path)!r}; write that in {part}"
    head = ".".join(path[:listed])
    cure = f"sql: SELECT unnest({head}) AS row FROM read_json('…'), and row.{'.'.join(path[listed:])}"
    return f"{what}, but it is in every element of the list {head!r}; one row each is {cure}"


def _agree(path: Sequence[str], steps: Sequence[str]) -> int:
    """How many of the last steps of two paths are the same."""
    pairs = zip(reversed(path), reversed(steps))
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _deeper(value: Any, key: str, above: tuple[str, ...], listed: int = 0) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where a key is below a value: its path, and how many steps of it lead to a list."""
    if isinstance(value, dict):
        if above and key in value:
            yield (*above, key), listed
        for name, inner in value.items():
            yield from _deeper(inner, key, (*above, name), listed)
    elif isinstance(value, list) and not listed and value:
        yield from _deeper(value[0], key, above, len(above))


def bad_json(root: Path, files: list[Path], spec: Table) -> str:
    """What is wrong with the first bad line of JSON files."""
    for file in files:
        if json_form(root / file, spec) != "newline_delimited":
            continue
        with opened(root / file, spec) as text:
            for number, line in enumerate(text, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.removeprefix("\ufeff"))
                except json.JSONDecodeError as error:
                    cure = "correct or remove it"
                    if error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated"):
                        cure = "it is cut off; finish or remove it, or copy whole lines of a file that is being written"
                    what = f"{error.msg.removesuffix(' starting at')} at character {error.pos + 1}"
                    return f"{root / file} line {number} is not JSON: {what}; {cure}"
                if not isinstance(row, dict):
                    return f"{root / file} line {number} is not a JSON object"
    return ""

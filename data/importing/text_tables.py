"""The SELECT that reads the columns of text files as they are written.

body = text_rows(work, spec, [Path("clicks.csv")], "events", ["customer", "sku"])      # one VARCHAR column each
"""

from __future__ import annotations

from pathlib import Path

from reshelf.data.importing.database import Work, named, quoted
from reshelf.data.importing.found_files import partition_of
from reshelf.data.importing.json_paths import in_text
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.text_files import (
    LINE_LIMIT,
    UNPACKING,
    cut_off,
    dialect,
    header_line,
    not_text,
    opened,
    readable,
    records,
)
from reshelf.errors import InputError

_NEEDED = ("user_id", "item_id", "time", "candidates", "title")
"""A file without the column of one of these is another table's, or has other names."""


def text_rows(work: Work, spec: Table, files: list[Path], part: str, names: list[str]) -> str:
    """A SELECT of text files' columns: VARCHAR, and JSON for a path into text that is JSON. `\\N` is how databases
    write NULL into text. A column that some of the files lack, as before it was added to the log, is NULL there.

    Raises:
        InputError: no header, a column that is not there or there twice, text of another encoding.
    """
    needed = {getattr(spec, field, None) for field in _NEEDED if isinstance(getattr(spec, field, None), str)}
    later = {name for name in names if name not in needed}
    lacking: dict[str, list[Path]] = {}
    bodies = [_rows(work, spec, file, part, names, later, lacking) for file in files]
    for name, without in lacking.items():
        if len(without) == len(files):
            raise InputError(_missing(work.root / files[0], spec, part, name, 0))
        what = f"{len(without)} of {len(files)} files of {part} have no column {name!r}, which is missing in their rows"
        work.report.warn(f"{what} ({without[0]}); correct {part} if they call it otherwise")
    return f"({' UNION ALL '.join(bodies)})"


def _rows(
    work: Work, spec: Table, file: Path, part: str, names: list[str], later: set[str], lacking: dict[str, list[Path]]
) -> str:
    """A SELECT of one file.

    Args:
        later: the names that it may lack.
        lacking: of those, which files lack them: this one is added.
    """
    path = work.root / file
    try:
        separator, quote = dialect(path, spec)
        header = header_of(path, spec)
    except UnicodeDecodeError as error:
        raise not_text(path, spec, error) from error
    except UNPACKING as error:
        raise cut_off(path, error) from error
    if not any(header):
        raise InputError(f"{path} is empty; give a file with a header, or say its columns with {part}.header")
    folders = partition_of(path)
    wanted = []
    for name in names:
        if name not in header and name in folders:
            value = folders[name]
            wanted.append(f"{'CAST(NULL AS VARCHAR)' if value is None else quoted(value)} AS {named('column ' + name)}")
            continue
        steps = name.split(".")
        heads = [".".join(steps[:at]) for at in range(len(steps), 0, -1)]
        column = next((head for head in heads if head in header), name)
        inside = name[len(column) + 1 :]
        found = header.count(column)
        if found == 0 and name in later:
            lacking.setdefault(name, []).append(file)
            wanted.append(f"NULL AS {named('column ' + name)}")
            continue
        if found != 1:
            raise InputError(_missing(path, spec, part, name, found))
        text = f"nullif(c{header.index(column)}, '\\N')"
        wanted.append(f"{in_text(text, inside) if inside else text} AS {named('column ' + name)}")
    columns = ", ".join(f"{quoted(f'c{place}')}: 'VARCHAR'" for place in range(len(header)))
    source, options = readable(work.folder, work.root, file, spec)
    skip = f"skip = {spec.skip_lines}, " if spec.skip_lines else ""
    return (
        f"(SELECT {', '.join(wanted) or '1 AS one'} FROM read_csv({quoted(str(source))}, auto_detect = false, {skip}"
        f"header = {'false' if spec.header else 'true'}, delim = {quoted(separator)}, quote = {quoted(quote)}, "
        f"escape = {quoted(spec.escape or quote if quote else '')}, columns = {{{columns}}}, nullstr = '', "
        f"strict_mode = true, max_line_size = {LINE_LIMIT}, {options}))"
    )


def header_of(path: Path, spec: Table) -> list[str]:
    """The names of a text file's columns."""
    if spec.header:
        return spec.header
    separator, quote = dialect(path, spec)
    with opened(path, spec) as text:
        for _ in range(spec.skip_lines):
            text.readline()
        return [name.removeprefix("\ufeff") for name in next(records(text, separator, quote, spec.escape), [])]


def _missing(path: Path, spec: Table, part: str, name: str, found: int) -> str:
    """What to do about a column that is not there once."""
    header, (separator, quote) = header_of(path, spec), dialect(path, spec)
    there = f"(there are {', '.join(header)})"
    if found:
        return f"{path}: there are {found} columns {name!r}; rename all but one {there}; correct {part} in the mapping"
    above = None if spec.header else header_line(path, spec, separator, quote, [name])
    if above and above > spec.skip_lines:
        return f"{path}: the names of the columns are on line {above + 1}; set {part}.skip_lines: {above}"
    return f"{path}: there is no column {name!r} {there}; correct {part} in the mapping"

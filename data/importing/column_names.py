"""Which columns a table has, whether or not the mapping reads them.

column_names(work, spec, "events")      # ["user", "payload.sku", "payload.status", …]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.found_files import PARQUET, find_files
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.json_files import first_objects
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.tables import selected
from reshelf.data.importing.text_files import JSON, ending_of
from reshelf.data.importing.text_tables import header_of


def column_names(work: Work, spec: Table, part: str) -> list[str]:
    """The columns of a table that was read already. Of objects their parts, as dotted paths, also in lists of them.

    Of JSON files the keys of the first rows.
    """
    if spec.sql:
        return list(_parts_of_relation(work, f"({selected(work, spec.sql, part)})"))
    files = find_files(work.root, spec.file or "", part, ImportReport())
    if all(ending_of(file) in PARQUET for file in files):
        paths = ", ".join(quoted(str(work.root / file)) for file in files)
        return list(_parts_of_relation(work, f"read_parquet([{paths}], union_by_name = true)"))
    if all(ending_of(file) in JSON for file in files):
        rows = first_objects(work, spec, files)
        return list(dict.fromkeys(path for row in rows for path in _parts_of_value(row, ())))
    return list(dict.fromkeys(name for file in files for name in header_of(work.root / file, spec)))


def _parts_of_relation(work: Work, body: str) -> Iterator[str]:
    found = work.base.sql(f"SELECT * FROM {body}")
    for name, kind in zip(found.columns, found.types):
        yield from _parts_of_type(kind, (name,))


def _parts_of_type(kind: Any, path: tuple[str, ...]) -> Iterator[str]:
    """The plain parts of a DuckDB type."""
    if kind.id == "struct":
        for name, inner in kind.children:
            yield from _parts_of_type(inner, (*path, name))
    elif kind.id == "list" and kind.children[0][1].id == "struct":
        yield from _parts_of_type(kind.children[0][1], path)
    else:
        yield ".".join(path)


def _parts_of_value(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """The plain parts of a JSON value."""
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        inside = value[0].items()
    elif path:
        yield ".".join(path)
    for name, inner in inside:
        yield from _parts_of_value(inner, (*path, name))

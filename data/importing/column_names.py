"""Which columns a table has, whether or not the mapping reads them.

column_names(work, spec, "events")      # {"user": "", "payload.status": "", "lines.sku": "lines", …}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.found_files import PARQUET, find_files
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.json_files import first_objects
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.tables import selected
from reshelf.data.importing.text_files import JSON, ending_of
from reshelf.data.importing.text_tables import header_of


def column_names(work: Work, spec: Table, part: str) -> dict[str, str]:
    """The plain columns of a table that was read already, and the list that each is in: "" for none.

    Of objects, also in lists, their parts as dotted paths; of JSON files the keys of the first rows.
    """
    if spec.sql:
        return dict(_of_relation(work, f"({selected(work, spec.sql, part)})"))
    files = find_files(work.root, spec.file or "", part, ImportReport())
    if all(ending_of(file) in PARQUET for file in files):
        paths = ", ".join(quoted(str(work.root / file)) for file in files)
        return dict(_of_relation(work, f"read_parquet([{paths}], union_by_name = true)"))
    if all(ending_of(file) in JSON for file in files):
        return {name: head for row in first_objects(work, spec, files) for name, head in _of_value(row)}
    return {name: "" for file in files for name in header_of(work.root / file, spec)}


def _of_relation(work: Work, body: str) -> Iterator[tuple[str, str]]:
    found = work.base.sql(f"SELECT * FROM {body}")
    for name, kind in zip(found.columns, found.types):
        yield from _of_type(kind, name)


def _of_type(kind: Any, path: str, head: str = "") -> Iterator[tuple[str, str]]:
    """The plain parts of a DuckDB type."""
    if kind.id == "list" and not head and kind.children[0][1].id == "struct":
        kind, head = kind.children[0][1], path
    if kind.id == "struct":
        for name, inner in kind.children:
            yield from _of_type(inner, f"{path}.{name}", head)
    elif kind.id not in ("list", "map"):
        yield path, head


def _of_value(value: Any, path: str = "", head: str = "") -> Iterator[tuple[str, str]]:
    """The plain parts of a JSON value."""
    if isinstance(value, list) and not head and value and isinstance(value[0], dict):
        value, head = value[0], path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _of_value(inner, f"{path}.{name}" if path else name, head)
    elif not isinstance(value, list):
        yield path, head

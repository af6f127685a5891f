"""Rows of Parquet as ranking lists, and what is wrong with those that cannot be one.

check_columns(path, pq.read_schema(path))                # before work starts: InputError
rows, rejects = read_rows(batch, "part-0.parquet", 4096)     # while it runs: a bad row is a Reject
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from reshelf.data.dataset_folder import LIST_SCHEMA, from_row, problem_of
from reshelf.data.schema import RankingList
from reshelf.errors import InputError, first_line

_REQUIRED = tuple(name for name, field in RankingList.model_fields.items() if field.is_required())
_FIELD = re.compile(r"(?:field )?(\w+)")
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_MAPPINGS = {"features": pa.list_(pa.float64()), "context": pa.string()}
"""Fields that are mappings, and the type of their values."""
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True)
class Row:
    """A list and where it came from."""

    file: str
    row: int
    ranking: RankingList


@dataclass(frozen=True)
class Reject:
    """A row that cannot be scored."""

    file: str
    row: int
    """Counted from 0 within its file."""
    list_id: str | None
    field: str
    """The column at fault, or `prompt` and `score` for what is found out later."""
    reason: str
    """One sentence."""


def reject(file: str, row: int, list_id: str | None, reason: str, field: str | None = None) -> Reject:
    """A `Reject` from an error's sentence, which begins with the field where `field` is not given."""
    reason = reason.removeprefix(f"list {list_id}, ")
    if field is None:
        found = _FIELD.match(reason)
        named = found[1] if found else ""
        # What is said of a feature begins with the feature's own name.
        field = named if named in RankingList.model_fields else "features"
    return Reject(file, row, list_id, field, reason)


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Raises InputError where a column is missing, unknown, there twice or of another type than `LIST_SCHEMA` says."""
    for name in _REQUIRED:
        if name not in schema.names:
            raise InputError(f"{path}: column {name!r} is missing; lists have at least {', '.join(_REQUIRED)}")
    for field in schema:
        if field.name not in LIST_SCHEMA.names:
            raise InputError(
                f"{path}: unknown column {field.name!r}; lists have {', '.join(LIST_SCHEMA.names)}; leave others out"
            )
        if schema.names.count(field.name) > 1:
            raise InputError(f"{path}: column {field.name!r} is there twice; leave one out")
        wanted = LIST_SCHEMA.field(field.name).type
        if not _fits(field.type, wanted) and not _is_mapping(field.name, field.type):
            raise InputError(f"{path}: column {field.name!r} is {field.type}, expected {wanted}; convert it")


def read_rows(batch: pa.RecordBatch, file: str, first: int) -> tuple[list[Row], list[Reject]]:
    """Validate a batch whose columns passed `check_columns`; every row is in one of the two lists.

    Args:
        file: name of its file.
        first: number of its first row within the file.
    """
    rows, rejects = [], []
    for n, values in enumerate(_values(batch), first):
        if isinstance(values, str):
            rejects.append(reject(file, n, None, values, "row"))
            continue
        try:
            rows.append(Row(file, n, from_row(RankingList, values)))
        except ValidationError as error:
            rejects.append(reject(file, n, values.get("list_id"), problem_of(error)))
        except (TypeError, KeyError) as error:  # a pair of `features` or `context` without its name
            rejects.append(reject(file, n, values.get("list_id"), f"field features: {error!r}", "features"))
    return rows, rejects


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    """Every row as plain values, or as the sentence that says why it has none."""
    try:
        columns = [
            column if _is_mapping(name, column.type) else _cast(column, LIST_SCHEMA.field(name).type)
            for name, column in zip(batch.schema.names, batch.columns)
        ]
        yield from pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        if len(batch) == 1:
            what = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else first_line(error)
            yield f"a value of this row cannot be read: {what}"
            return
        for n in range(len(batch)):
            yield from _values(batch.slice(n, 1))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    # Nanoseconds may be cut to microseconds; anything else that would change a value is an error.
    return column.cast(options=pc.CastOptions(kind, allow_time_truncate=True))


def _fits(there: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type can stand for those of the other without a change of meaning."""
    if pa.types.is_null(there):
        return True
    if pa.types.is_dictionary(there):
        return _fits(there.value_type, wanted)
    if pa.types.is_string(wanted):
        return any(is_text(there) for is_text in _TEXT)
    if pa.types.is_floating(wanted):
        return pa.types.is_floating(there) or pa.types.is_integer(there) or pa.types.is_decimal(there)
    if pa.types.is_integer(wanted):
        return pa.types.is_integer(there)
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(there)
    if pa.types.is_list(wanted):
        return any(is_list(there) for is_list in _LISTS) and _fits(there.value_type, wanted.value_type)
    if not pa.types.is_struct(there):
        return False
    known = {field.name: field.type for field in wanted}
    return all(field.name in known and _fits(field.type, known[field.name]) for field in there)


def _is_mapping(name: str, kind: pa.DataType) -> bool:
    """A map or a struct: the other two ways to write `features` and `context`."""
    if name not in _MAPPINGS:
        return False
    values = _MAPPINGS[name]
    if pa.types.is_map(kind):
        return _fits(kind.key_type, pa.string()) and _fits(kind.item_type, values)
    return pa.types.is_struct(kind) and all(_fits(field.type, values) for field in kind)

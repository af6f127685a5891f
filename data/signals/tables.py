"""What signals are computed from: tables, made when they are first read (imports), or memory-mapped files (requests).

    tables = LazyTables({"counts": lambda: count(log)});  tables["counts"]
    write_tables(Path("data/signals"), tables, ["counts"])
    mapped = read_tables(Path("data/signals"), ["counts"])

A table is one file in Arrow's format, which holds values and nothing that could run, and is read in place: servers on
one machine share its memory. Rows are items in catalogue order, unless a table says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from reshelf.errors import InputError


@dataclass(frozen=True)
class Groups:
    """Values by row: those of row i are `values[starts[i] : starts[i + 1]]`."""

    starts: npt.NDArray[np.integer]
    """int [rows + 1]"""
    values: npt.NDArray[Any]

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[self.starts[row] : self.starts[row + 1]]

    @classmethod
    def of(cls, rows: npt.NDArray[np.integer], values: npt.NDArray[Any], count: int) -> Groups:
        """Values and the row that each belongs to, in rising order of rows.

        >>> Groups.of(np.array([0, 0, 2]), np.array([5, 6, 7]), 3)[0].tolist()
        [5, 6]
        """
        return cls(np.searchsorted(rows, np.arange(count + 1)).astype(np.int64), values)


Table: TypeAlias = npt.NDArray[Any] | sp.csr_matrix | Groups | pa.StringArray
"""A column, or a matrix by rows, or a sparse one, or groups of values, or texts."""
Tables: TypeAlias = Mapping[str, Table]


class LazyTables(Mapping[str, Table]):
    """Tables that are made when they are first read.

    Args:
        makers: by name.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Table]]) -> None:
        self._makers = makers
        self._made: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def dots(matrix: npt.NDArray[np.float64], rows: npt.NDArray[np.integer], vector: npt.NDArray[np.float64]) -> Any:
    """Dot products of some rows with a vector, float64 [rows].

    Not by BLAS, whose last bits differ with where an array lies in memory: an import and a request must agree in all.
    """
    return (matrix[rows] * vector).sum(axis=1)


def write_tables(folder: Path, tables: Tables, names: Iterable[str]) -> None:
    """Write each table as `NAME.arrow`."""
    for name in names:
        batch = _batch(tables[name])
        with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)


def read_tables(folder: Path, names: Iterable[str]) -> dict[str, Table]:
    """Map tables into memory.

    Raises:
        InputError: a file is missing, or is not such a table.
    """
    tables = {}
    for name in names:
        path = folder / f"{name}.arrow"
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                batch = reader.get_batch(0)
                batch.validate(full=True)
                tables[name] = _table(batch)
        except (OSError, pa.ArrowException, ValueError, KeyError, IndexError) as error:
            raise InputError(
                f"{path} cannot be read: {' '.join(str(error).split())}; restore the file or finetune again"
            ) from error
    return tables


def _batch(table: Table) -> pa.RecordBatch:
    if isinstance(table, pa.StringArray):
        return pa.record_batch({"text": table})
    if isinstance(table, Groups):
        return pa.record_batch({"values": _grouped(table.starts, table.values)})
    if isinstance(table, np.ndarray) and table.ndim == 1:
        return pa.record_batch({"value": pa.array(table)})
    if isinstance(table, np.ndarray):
        rows = pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1])
        return pa.record_batch({"row": rows})
    table.sort_indices()
    columns = {"index": table.indices.astype(np.int32), "weight": table.data}
    batch = pa.record_batch({name: _grouped(table.indptr, values) for name, values in columns.items()})
    return batch.replace_schema_metadata({"columns": str(table.shape[1])})


def _grouped(starts: npt.NDArray[np.integer], values: npt.NDArray[Any]) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(values))


def _table(batch: pa.RecordBatch) -> Table:
    """The inverse of `_batch`, without a copy."""
    column = batch.column(0)
    match batch.schema.names:
        case ["text"]:
            return column
        case ["values"]:
            return Groups(column.offsets.to_numpy(), column.values.to_numpy())
        case ["value"]:
            return column.to_numpy()
        case ["row"]:
            return column.values.to_numpy().reshape(len(column), column.type.list_size)
        case ["index", "weight"]:
            indices, weights = column.values.to_numpy(), batch.column("weight").values.to_numpy()
            shape = (len(column), int(batch.schema.metadata[b"columns"]))
            matrix = sp.csr_matrix((weights, indices, column.offsets.to_numpy()), shape=shape)
            matrix.check_format(full_check=True)  # an index beyond the columns would be read from anywhere
            return matrix
    raise ValueError(f"it has the columns {', '.join(batch.schema.names)}")

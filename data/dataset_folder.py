"""A data set on disk: a folder with `items.parquet` and one Parquet file of lists per split.

    data = load_dataset_folder("runs/demo/data")
    data.items["p17"].title;  data.lists["train"][0].query

The same files open with `datasets.load_dataset("parquet", data_files=...)`; their Arrow schemas are `ITEM_SCHEMA` and
`LIST_SCHEMA`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from reshelf.data.atomic import atomic
from reshelf.data.schema import Item, RankingList, Record
from reshelf.errors import InputError

SPLITS = ("train", "valid", "test")
R = TypeVar("R", bound=Record)

_TIME = pa.timestamp("us", tz="UTC")
_EVENT = pa.struct(
    [
        ("kind", pa.string()),
        ("time", _TIME),
        ("item_id", pa.string()),
        ("query", pa.string()),
        ("value", pa.float64()),
    ]
)
_NAMED_TEXT = pa.struct([("name", pa.string()), ("value", pa.string())])
_NAMED_NUMBERS = pa.struct([("name", pa.string()), ("values", pa.list_(pa.float64()))])

_NAMED = {"attributes": "value", "context": "value", "features": "values"}
"""Fields that are mappings, and what the values are called in the lists of pairs that stand for them."""

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("category", pa.list_(pa.string())),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("price_level", pa.int64()),
        ("rating", pa.float64()),
        ("rating_count", pa.int64()),
        ("attributes", pa.list_(_NAMED_TEXT)),
        ("description", pa.string()),
        ("image", pa.string()),
    ]
)
LIST_SCHEMA = pa.schema(
    [
        ("list_id", pa.string()),
        ("user_id", pa.string()),
        ("time", _TIME),
        ("query", pa.string()),
        ("context", pa.list_(_NAMED_TEXT)),
        ("history", pa.list_(_EVENT)),
        ("candidates", pa.list_(pa.string())),
        ("labels", pa.list_(pa.int64())),
        ("scores", pa.list_(pa.float64())),
        ("positions", pa.list_(pa.int64())),
        ("features", pa.list_(_NAMED_NUMBERS)),
        ("prices", pa.list_(pa.float64())),
        ("utility", pa.list_(pa.float64())),
    ]
)


_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field; correct its name or leave it out",
    "finite_number": "value is NaN or infinite",
}


@dataclass
class RankingData:
    """A catalogue and its lists by split: what training, evaluation and baselines take.

    Examples:
        >>> boots = Item(item_id="p5", title="Hiking boots")
        >>> data = RankingData({"p5": boots}, {"train": [RankingList(list_id="l1", user_id="u1", candidates=("p5",))]})
        >>> data.items[data.lists["train"][0].candidates[0]].title
        'Hiking boots'
    """

    items: dict[str, Item]
    """By item id."""
    lists: dict[str, list[RankingList]] = field(default_factory=dict)
    """By split: train, valid, test."""


def to_row(record: Record) -> dict[str, Any]:
    """A record as the plain dict that is stored: open maps become lists of named values, as Parquet wants them."""
    row = record.model_dump()
    for name, value in _NAMED.items():
        if name in row:
            row[name] = [{"name": k, value: v} for k, v in row[name].items()]
    return row


def from_row(kind: type[R], row: dict[str, Any]) -> R:
    """The inverse of `to_row`, with validation. Plain mappings are read as such."""
    row = {k: v for k, v in row.items() if v is not None}
    for name, value in _NAMED.items():
        if isinstance(row.get(name), list):
            names = [pair["name"] for pair in row[name]]
            row[name] = {pair["name"]: pair[value] for pair in row[name]}
            if len(row[name]) < len(names):
                raise _repeated(kind, name, next(one for one in row[name] if names.count(one) > 1))
    for name in ("context", "features"):
        if isinstance(row.get(name), dict):  # a struct has all of its names in every row
            row[name] = {key: one for key, one in row[name].items() if one is not None}
    return kind.model_validate(row)


def _repeated(kind: type[R], field: str, name: str) -> ValidationError:
    """One as pydantic's own, so that callers name its row alike."""
    problem = PydanticCustomError("repeated", "{name} is there twice", {"name": repr(name)})
    return ValidationError.from_exception_data(kind.__name__, [{"type": problem, "loc": (field,), "input": name}])


def problem_of(error: ValidationError) -> str:
    """The first problem of a pydantic error as `field labels.3: value is NaN or infinite`."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"field {where}: {message_of(first)}" if where else message_of(first)


def message_of(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors, without its where."""
    if error["type"] == "too_short" and error["ctx"]["min_length"] == 1:
        return "is empty; give at least one"
    return str(_MESSAGES.get(error["type"]) or error["msg"].removeprefix("Value error, "))


def write_records(path: Path, records: Iterable[Record], schema: pa.Schema) -> int:
    """Write records as one Parquet file, atomically; returns how many."""
    rows = [to_row(r) for r in records]
    with atomic(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial, compression="zstd")
    return len(rows)


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Read and validate one Parquet file made by `write_records`.

    Raises:
        InputError: the file is missing or unreadable, or a row is not a valid `kind`; names file, row and field.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; make the data set with `reshelf data`")
    try:
        source = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a Parquet file: {error}") from error
    unknown = sorted(set(source.schema_arrow.names) - set(kind.model_fields))
    missing = sorted(n for n, f in kind.model_fields.items() if f.is_required() and n not in source.schema_arrow.names)
    if unknown or missing:
        raise InputError(
            f"{path}: " + (f"column {missing[0]!r} is missing" if missing else f"unknown column {unknown[0]!r}")
        )
    row = 0
    for batch in source.iter_batches(2048):
        for values in batch.to_pylist():
            try:
                yield from_row(kind, values)
            except ValidationError as error:
                raise InputError(f"{path} row {row}, {problem_of(error)}") from error
            row += 1


def read_items(path: Path) -> dict[str, Item]:
    """A catalogue, by item id.

    Raises:
        InputError: the file or a row of it is not valid, or an id is there twice.
    """
    items: dict[str, Item] = {}
    for row, item in enumerate(read_records(path, Item)):
        if item.item_id in items:
            raise InputError(f"{path} row {row}, field item_id: {item.item_id!r} is there twice")
        items[item.item_id] = item
    return items


def save_dataset_folder(folder: Path, data: RankingData) -> None:
    """Write `items.parquet` and one Parquet file per split, each all or not at all.

    Examples:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> one = RankingList(list_id="l1", user_id="u1", candidates=("p5",))
        >>> save_dataset_folder(folder, RankingData({"p5": Item(item_id="p5", title="Boots")}, {"test": [one]}))
        >>> load_dataset_folder(folder).lists["test"] == [one]
        True
    """
    write_records(folder / "items.parquet", data.items.values(), ITEM_SCHEMA)
    for split, lists in data.lists.items():
        write_records(folder / f"{split}.parquet", lists, LIST_SCHEMA)


def check_only_data_set(folder: Path) -> None:
    """Raise InputError where a new data set would replace what is none."""
    parts = ("signals", "images", "randomised.txt", "items.parquet", *(f"{split}.parquet" for split in SPLITS))
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix != ".json" and path.name not in parts:
            raise InputError(
                f"cannot write {folder}: it holds {path.name!r}, which is no part of a data set; choose another output "
                "folder"
            )


def load_dataset_folder(folder: Path | str, splits: Iterable[str] | None = None) -> RankingData:
    """Read a data set folder; `splits` defaults to those that are there.

    Raises:
        InputError: a file or column is missing, a row is invalid, an id is there twice, or a list names an item that
            the catalogue does not have.

    Examples:
        >>> load_dataset_folder("nowhere")
        Traceback (most recent call last):
        reshelf.errors.InputError: nowhere/items.parquet is not there; make the data set with `reshelf data`
    """
    folder = Path(folder)
    items = read_items(folder / "items.parquet")
    wanted = tuple(splits) if splits is not None else tuple(s for s in SPLITS if (folder / f"{s}.parquet").exists())
    if not wanted:
        raise InputError(f"{folder} has no train.parquet, valid.parquet or test.parquet; make it with `reshelf data`")
    data = RankingData(items)
    for split in wanted:
        path = folder / f"{split}.parquet"
        lists: list[RankingList] = []
        seen: set[str] = set()
        for row, ranking in enumerate(read_records(path, RankingList)):
            if ranking.list_id in seen:
                raise InputError(f"{path} row {row}, field list_id: {ranking.list_id!r} is there twice")
            seen.add(ranking.list_id)
            check_numbers(ranking, f"{path} row {row}")
            check_known(ranking, items, f"{path} row {row}")
            lists.append(ranking)
        data.lists[split] = lists
    return data


def check_numbers(ranking: RankingList, where: str) -> None:
    """What is learned from and measured on has all its numbers.

    Raises:
        InputError: one is null.
    """
    named = {"scores": ranking.scores or (), **{f"features.{name}": one for name, one in ranking.features.items()}}
    for name, values in named.items():
        if math.isnan(sum(values)):
            place = next(n for n, value in enumerate(values) if math.isnan(value))
            raise InputError(f"{where}, field {name}.{place}: null; give a number, or leave the field out of all lists")


def check_known(ranking: RankingList, items: dict[str, Item], where: str) -> None:
    """Every candidate and every history item must be in the catalogue.

    Raises:
        InputError: the first id that is not.
    """
    for candidate in ranking.candidates:
        if candidate not in items:
            raise InputError(f"{where}, field candidates: item {candidate!r} is not in the catalogue")
    for event in ranking.history:
        if event.item_id is not None and event.item_id not in items:
            raise InputError(f"{where}, field history: item {event.item_id!r} is not in the catalogue")

"""Both ways of importing an impression log, streamed and in memory, for tests of either. Imported by the tests."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reshelf.data.dataset_folder import SPLITS, save_dataset_folder
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.importer import assemble
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.stream import stream_folder, why_not
from reshelf.errors import InputError

WAYS = ("streamed", "in memory")


@dataclass
class Outcome:
    """What an import wrote and counted, or the sentence it stopped with."""

    error: str | None
    tables: dict[str, list[dict[str, Any]]]
    report: dict[str, Any]


def outcome(
    way: str, mapping: Mapping, root: Path, seed: int = 0, limit: int | None = None, rows: int = 250_000
) -> Outcome:
    """Import in one way or the other into a folder that goes away."""
    assert why_not(mapping) is None
    books = Accounts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if way == "streamed":
                stream_folder(mapping, root, folder, seed, books, limit, quiet=True, rows=rows)
            else:
                save_dataset_folder(folder, assemble(mapping, root, seed, books, limit))
        except InputError as error:
            return Outcome(str(error), {}, {})
        assert sorted(p.suffix for p in folder.iterdir()) == [".parquet"] * (1 + len(books.lists))
        names = ["items", *(split for split in SPLITS if (folder / f"{split}.parquet").exists())]
        files = {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in names}
    return Outcome(None, files, json.loads(json.dumps(books.to_json())))

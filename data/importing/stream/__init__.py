"""Import of a shop's own logs, of any size, in bounded memory: an impression log and events with times, by DuckDB.

    if not why_not(mapping):
        stream_folder(mapping, Path("/logs"), folder, seed=0, books=Accounts())

`reshelf data import` comes here by itself where the mapping fits; for all others, and as the slow and obvious reference
that tests compare with, there is `data.importing.assemble`. Both check single rows with the same code, keep the same
rows, count the same reasons and write the same lists. What grows with the log lies on disk; the catalogue, the names
of shoppers, lists and queries, and a few numbers per list stay in memory.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reshelf.data.dataset_folder import ITEM_SCHEMA, SPLITS, write_records
from reshelf.data.importing.given import Context
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.items import read_items
from reshelf.data.importing.mapping import BuildConfig, Mapping
from reshelf.data.importing.queries import read_queries
from reshelf.data.importing.stream.events import stream_events
from reshelf.data.importing.stream.lists import place_of, stream_pairs
from reshelf.data.importing.stream.splits import split_events, split_lists
from reshelf.data.importing.stream.work import MEMORY, ROWS, open_work
from reshelf.data.importing.stream.writing import Source, write_split
from reshelf.data.signals import make_signals
from reshelf.data.signals.list_outcomes import OUTCOMES


def why_not(mapping: Mapping) -> str | None:
    """What of a mapping keeps it from being streamed; None where nothing does."""
    if mapping.events is None or not mapping.events.time:
        return "it has no events with times"
    if mapping.events.split or mapping.split.by == "leave_one_out":
        return "it splits events by itself"
    if mapping.lists or mapping.build or mapping.item_queries:
        return "it has more than an impression log"
    if any(name in OUTCOMES for name in (*mapping.signals.names, *mapping.signals.first_stage)):
        return "its signals are counted on how lists ended"
    for i, spec in enumerate(mapping.pairs):
        if spec.label or spec.history or spec.each_row or spec.session_hours is not None or not spec.time:
            return f"pairs.{i} is no impression log with times"
    return None


def stream_folder(
    mapping: Mapping, root: Path, folder: Path, seed: int, books: Accounts,
    limit: int | None = None, quiet: bool = False, memory: str = MEMORY, rows: int = ROWS,
) -> None:  # fmt: skip
    """Write `items.parquet` and the lists of every split into a folder.

    Args:
        memory: what DuckDB may hold, as it writes it: `3GB`.
        rows: how many rows of a table are read at once.

    Raises:
        InputError: the mapping or the data is at fault; names file, row and field.
    """
    assert mapping.events is not None, "see why_not"
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bars, disable=quiet) as progress:
        work = open_work(folder / "work", books, progress, memory, rows)
        try:
            items = read_items(mapping.items, root, books)
            ids = list(items)
            thresholds = BuildConfig().rating_thresholds
            events = stream_events(work, mapping.events, root, ids, thresholds)
            split_events(events.log, mapping.split, seed)
            codes = {item_id: row for row, item_id in enumerate(ids)}
            context = Context(codes, read_queries(mapping, root, books), None, mapping.split, thresholds, books)
            lists = stream_pairs(work, mapping.pairs, root, context, bool(mapping.events.list_id))
            work.base.close()

            def place(part: int, row: int) -> str:
                return place_of(mapping.pairs[part], root, part, row)

            lists = split_lists(lists, events.log, work, mapping, seed, limit, place)
            signals = make_signals(mapping.signals, list(items.values()), events.log)
            if not len(lists):
                raise books.nothing_left()
            write_records(folder / "items.parquet", items.values(), ITEM_SCHEMA)
            texts = (work.queries.texts(), work.users.texts(), work.lists.texts())
            source = Source(lists, events, pa.array(ids, pa.string()), *texts, mapping, signals)
            for code, split in enumerate(SPLITS):
                if len(chosen := np.flatnonzero(lists.split == code)):
                    books.lists[split] = write_split(folder / f"{split}.parquet", chosen, source, work)
        finally:
            work.base.close()
            shutil.rmtree(work.folder)
    books.check()

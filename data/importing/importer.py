"""Import a shop's own logs, or a public data set, by a mapping file.

    reshelf data import --mapping amazon_beauty_search --root ../shared/data --out runs/beauty_search/data
    import_logs(ImportConfig(mapping="shop.yaml", root=Path("/logs"), out=Path("runs/shop/data")))

Out comes a data set folder (`data.dataset_folder`) with `report.json`: how many rows of every table were read, kept,
dropped and repaired, by reason. The folder appears only when all went well.

What stops the import (InputError: file, row, field) means that the mapping or the export is wrong, and a guess would
train on nonsense: a column, file or key that is not there; an item or list id that comes twice; a label that is
missing, NaN or not mapped; a history event at or after its list's time. What every real log has is repaired or
dropped, and counted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from reshelf.data.atomic import atomic_folder
from reshelf.data.dataset_folder import SPLITS, RankingData, check_only_data_set, load_dataset_folder
from reshelf.data.importing.build import build_lists
from reshelf.data.importing.database import MEMORY, Work, open_work
from reshelf.data.importing.events import event_log, read_events
from reshelf.data.importing.features import make_features
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.items import read_catalogue, read_dated_prices, read_item_queries, read_queries
from reshelf.data.importing.join_report import report_joins, shares_by_split
from reshelf.data.importing.list_histories import read_histories
from reshelf.data.importing.lists import query_key_sql, read_lists
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.mapping_file import load_mapping, shipped
from reshelf.data.importing.shown import read_shown
from reshelf.data.importing.splits import check_splits, guard_users, split_events, split_lists
from reshelf.data.importing.writing import Material, write_split
from reshelf.data.language import catalogue_language
from reshelf.data.signals.event_log import EventLog
from reshelf.data.signals.kept import FOLDER
from reshelf.errors import InputError
from reshelf.progress import MinuteProgress
from reshelf.ranges import AT_LEAST_1, SEED, check_numbers


@dataclass
class ImportConfig:
    """Options of `reshelf data import`."""

    mapping: str
    """A mapping file (YAML), or the name of a shipped one, such as amazon_beauty_search; `list` names those."""
    out: Path | None = None
    """Data set folder to make. An older data set there is replaced."""
    root: Path | None = None
    """Folder that the mapping's file names start from; default: `root` in the mapping, for the shipped ones
    ../shared/data."""
    seed: int = 0
    """Of everything drawn: splits, negatives, samples."""
    limit: int | None = None
    """At most this many lists per split (the first in order of reading), for a quick look."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Values of the mapping to change, by dotted key: `--changes.build.train_candidates 32`."""
    quiet: bool = False
    """Print nothing."""
    allow_remote: bool = False
    """Let the tables' SQL also read from s3 and https."""

    def __post_init__(self) -> None:
        check_numbers(self, {"seed": SEED, "limit": AT_LEAST_1})


def import_logs(config: ImportConfig) -> RankingData:
    """`import_folder`, and what it wrote.

    Raises:
        InputError: as `import_folder`.
    """
    import_folder(config)
    assert config.out is not None
    return load_dataset_folder(config.out)


def import_folder(config: ImportConfig) -> None:
    """Read, check, build and write a data set folder, in bounded memory however large the log is.

    Raises:
        InputError: the mapping or the data is at fault, or `out` cannot be written.
    """
    console = Console(quiet=config.quiet)
    if config.mapping == "list":
        for name, about in shipped().items():
            console.print(f"{name:<24} {about}", highlight=False, soft_wrap=True)
        return
    if config.out is None:
        raise InputError("import: --out is missing; name the data set folder to make")
    mapping = load_mapping(config.mapping, config.changes)
    root, report, out = config.root or Path(mapping.root), ImportReport(), config.out.absolute()
    if out.resolve() == root.resolve():
        raise InputError(
            f"--out {config.out} holds the raw tables, which the data set would replace; choose another --out"
        )
    check_only_data_set(out)
    with atomic_folder(out, "data set") as partial:
        write_folder(mapping, root.absolute(), partial, report, config)
        facts = {"mapping": config.mapping, "changes": config.changes, "seed": config.seed, **report.to_json()}
        (partial / "report.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if not config.quiet:
        report.show(console)
    lists = sum(facts["lists"] for facts in report.lists.values())
    titles = " (with Chinese titles)" if report.language == "zh" else ""
    console.print(f"{report.rows_kept['items']:,} items{titles} and {lists:,} lists are in {config.out}")


def write_folder(
    mapping: Mapping, root: Path, folder: Path, report: ImportReport, config: ImportConfig, memory: str = MEMORY
) -> None:
    """Write `items.parquet`, the lists of every split, and what their signals are computed from into a folder.

    Args:
        memory: what DuckDB may hold, as it writes it: `2GB`.

    Raises:
        InputError: the mapping or the data is at fault; names file, row and field.
    """
    with MinuteProgress(disable=config.quiet, transient=True) as progress:
        try:
            with open_work(folder / "work", root, report, progress, memory, config.allow_remote) as work:
                _write(work, mapping, folder, config)
        finally:
            shutil.rmtree(folder / "work", ignore_errors=True)
    report.check()


def _write(work: Work, mapping: Mapping, folder: Path, config: ImportConfig) -> None:
    report, seed = work.report, config.seed
    catalogue = read_catalogue(work, mapping, folder / "items.parquet")
    report.language = catalogue_language(_titles(catalogue.file))
    has_texts = read_queries(work, mapping)
    if mapping.events:
        read_events(work, mapping)
        log = event_log(work, mapping)
    else:
        log = _no_events(work)
    sources = read_shown(work, mapping, has_texts)
    lists = read_lists(work, mapping, sources)
    histories = read_histories(work, mapping, sources)
    report_joins(work, mapping)
    cuts = split_events(work, log, lists, mapping, sources, seed)
    lists = split_lists(work, lists, log, mapping, cuts, seed, config.limit, sources)
    ids = work.texts("SELECT list_text FROM numbered ORDER BY number")
    has_context = any(spec.context for spec in (*mapping.lists, *mapping.pairs))
    contexts = work.texts("SELECT context FROM numbered ORDER BY number") if has_context else None
    queries = work.texts("SELECT text FROM query ORDER BY code")
    if mapping.build:
        build = mapping.build
        if config.limit is not None:
            build.max_lists = {s: min(config.limit, build.max_lists.get(s, config.limit)) for s in SPLITS}
        members = read_item_queries(work, mapping, has_texts)
        keys = work.texts(f"SELECT {query_key_sql('text', mapping)} FROM query ORDER BY code")
        lists, new_ids, new_queries = build_lists(work, build, log, catalogue, members, lists, keys, seed)
        ids, queries = (_longer(old, new) for old, new in ((ids, new_ids), (queries, new_queries)))
    if mapping.split.guard_users:
        lists = guard_users(work, lists)
    if work.halves:
        report.warn(f"{work.halves} halves of surrogate pairs in the JSON text are now U+FFFD")
    if not len(lists):
        raise report.nothing_left()
    if not any(spec.in_split or spec.split for spec in (*mapping.lists, *mapping.pairs)):
        check_splits(lists, work, mapping.split, mapping.build.splits if mapping.build and not sources else None)
    features = make_features(work, mapping.signals, catalogue, log if mapping.events else None, lists, queries)
    own = work.arrays("SELECT DISTINCT number, event FROM own ORDER BY number, event")
    material = Material(
        lists=lists, log=log, histories=histories, catalogue=catalogue, queries=queries,
        users=work.texts("SELECT id FROM shopper ORDER BY code"), list_ids=ids, contexts=contexts,
        own=(own["number"].astype(np.int64), own["event"].astype(np.int64)), mapping=mapping,
        prices=read_dated_prices(work, mapping, len(catalogue)), features=features, sources=sources,
    )  # fmt: skip
    material.check_order()
    if features is not None:
        features.keep(folder / FOLDER, catalogue.ids, mapping.signals.first_stage)
    shares = shares_by_split(work, log, lists, cuts)
    for code, split in enumerate(SPLITS):
        if len(chosen := np.flatnonzero(lists.split == code)):
            report.lists[split] = write_split(folder / f"{split}.parquet", chosen, material, work) | shares[split]


def _titles(file: Path) -> Iterator[str]:
    for batch in pq.ParquetFile(file).iter_batches(columns=["title"]):
        yield from batch["title"].to_pylist()


def _no_events(work: Work) -> EventLog:
    """The tables and arrays of a log without events."""
    work.run("CREATE TABLE shopper (id VARCHAR, code INTEGER)")
    work.run("CREATE TABLE query (text VARCHAR, code INTEGER)")
    work.run("CREATE TABLE bot (user INTEGER)")
    work.run("CREATE TABLE lost (user INTEGER, key BIGINT)")
    work.run(
        "CREATE TABLE log (user INTEGER, item INTEGER, key BIGINT, list VARCHAR, grade TINYINT, whole_day BOOLEAN)"
    )
    types = {"user": np.int32, "item": np.int32, "kind": np.int8, "value": np.float64, "split": np.int8}
    types |= {"grade": np.int8, "query": np.int32, "key": np.int64, "undone": np.int64}
    columns: dict[str, Any] = {name: np.zeros(0, dtype=kind) for name, kind in types.items()}
    return EventLog(starts=np.zeros(1, dtype=np.int64), timed=True, **columns)


def _longer(texts: pa.Array, more: Sequence[str]) -> pa.Array:
    return pa.concat_arrays([texts.cast(pa.string()), pa.array(more, pa.string())])

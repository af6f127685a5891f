"""Import a shop's own logs, or a public data set, by a mapping file.

    reshelf data import --mapping amazon_beauty_search --root ../shared/data --out runs/beauty_search/data
    import_logs(ImportConfig(mapping="shop.yaml", root=Path("/logs"), out=Path("runs/shop/data")))

Out comes a data set folder (`data.dataset_folder`) with `report.json`: how many rows of every table were read, kept,
dropped and repaired, by reason. The folder appears only when all went well.

What stops the import (InputError: file, row, field): a column, file or mapping key that is not there; a missing id; an
item or list id that comes twice; an empty list; an unknown candidate; a missing, NaN or unmapped label; a history event
at or after its list's time; a value that is no number or time where one is needed. These mean that the mapping or the
export is wrong, and a guess would train on nonsense.
What is repaired or dropped, and counted: what every real log has; see
`data.importing.items`, `data.importing.history`, `data.importing.pairs`.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reshelf.data.dataset_folder import SPLITS, RankingData, load_dataset_folder, save_dataset_folder
from reshelf.data.importing.build import build_lists
from reshelf.data.importing.drafts import ANYONE, Draft, finish, past_of
from reshelf.data.importing.given import Context, read_lists
from reshelf.data.importing.history import EventLog, read_events
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.items import read_items
from reshelf.data.importing.mapping import BuildConfig, Mapping
from reshelf.data.importing.mapping_file import load_mapping
from reshelf.data.importing.pairs import read_pairs
from reshelf.data.importing.queries import read_item_queries, read_queries
from reshelf.data.importing.readers import NO_TIME
from reshelf.data.importing.splits import TEST, TRAIN, UNKNOWN, VALID, by_share, by_time, no_split, share, time_cuts
from reshelf.data.importing.stream import stream_folder, why_not
from reshelf.data.schema import Item
from reshelf.data.signals import Ask, make_signals
from reshelf.data.signals.list_outcomes import OUTCOMES, Outcomes, Shown
from reshelf.errors import InputError


@dataclass
class ImportConfig:
    """Options of `reshelf data import`."""

    mapping: str
    """A mapping file (YAML), or the name of a shipped one, such as amazon_beauty_search."""
    out: Path
    """Data set folder to make. An older data set there is replaced."""
    root: Path | None = None
    """Folder that the mapping's file names start from; default: `root` in the mapping, for the shipped ones
    ../shared/data."""
    seed: int = 0
    """Of everything drawn: splits, negatives, samples."""
    limit: int | None = None
    """At most this many lists per split (the first in order of reading), for a quick look."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Values of the mapping to change, by dotted key: {"build.train_candidates": 32}."""
    quiet: bool = False
    """Print nothing."""


def import_logs(config: ImportConfig) -> RankingData:
    """`import_folder`, and what it wrote.

    Raises:
        InputError: as `import_folder`.
    """
    import_folder(config)
    return load_dataset_folder(config.out)


def import_folder(config: ImportConfig) -> None:
    """Read, check, build and write a data set folder. A shop's impression log is streamed (`data.importing.stream`),
    however large it is; everything else is put together in memory.

    Raises:
        InputError: the mapping or the data is at fault, or `out` cannot be written.
    """
    mapping = load_mapping(config.mapping, config.changes)
    root, books, console = config.root or Path(mapping.root), Accounts(), Console(quiet=config.quiet)
    partial = _prepare(config.out)
    try:
        if reason := why_not(mapping):
            console.print(f"All of it is read into memory, for {reason}; only impression logs are streamed.")
            save_dataset_folder(partial, assemble(mapping, root, config.seed, books, config.limit))
        else:
            stream_folder(mapping, root, partial, config.seed, books, config.limit, config.quiet)
        report = {"mapping": config.mapping, "changes": config.changes, "seed": config.seed, **books.to_json()}
        (partial / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _put(partial, config.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    books.show(console)
    lists = sum(facts["lists"] for facts in books.lists.values())
    console.print(f"{books.rows_kept['items']:,} items and {lists:,} lists are in {config.out}")


def assemble(mapping: Mapping, root: Path, seed: int, books: Accounts, limit: int | None = None) -> RankingData:
    """Everything but the writing."""
    items = read_items(mapping.items, root, books)
    catalogue = list(items.values())
    ids = list(items)
    log = read_events(mapping.events, root, ids, mapping.split, books, seed) if mapping.events else None
    queries = read_queries(mapping, root, books)
    build = mapping.build or BuildConfig()
    rows = {item_id: row for row, item_id in enumerate(ids)}
    context = Context(rows, queries, log, mapping.split, build.rating_thresholds, books)
    drafts: list[Draft] = []
    for i, lists in enumerate(mapping.lists):
        drafts += read_lists(lists, root, f"lists.{i}", context)
    for i, pairs in enumerate(mapping.pairs):
        drafts += read_pairs(pairs, root, f"pairs.{i}", context)
    _assign_splits(drafts, mapping, log, seed)
    drafts = _cut(drafts, limit, books)
    if log is not None:
        _split_events(log, drafts)
    for draft in drafts:
        if log is not None and draft.history is None:
            draft.past = past_of(log, draft)
    if mapping.build and log is not None:
        if limit is not None:
            build.max_lists = {s: min(limit, build.max_lists.get(s, limit)) for s in SPLITS}
        pool = read_item_queries(mapping, root, rows, queries, books)
        drafts += build_lists(build, log, catalogue, pool, books, seed)
    if mapping.split.guard_users:
        drafts = _guard(drafts, books)
    _check_ids(drafts)
    _add_signals(drafts, mapping, catalogue, log, rows)
    data = RankingData(items, {})
    for code, split in enumerate(SPLITS):
        of_split = [finish(d, log, ids, mapping.max_history) for d in drafts if d.split == code]
        if of_split:
            data.lists[split] = of_split
            books.lists[split] = _facts(of_split)
    books.check()
    if not data.lists:
        raise books.nothing_left()
    return data


def _prepare(out: Path) -> Path:
    """An empty folder beside `out` to write to."""
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write {out}: it is a file; choose another output folder")
    strangers = [p.name for p in out.iterdir() if p.suffix not in (".parquet", ".json")] if out.is_dir() else []
    if strangers:
        raise InputError(
            f"cannot write {out}: it holds {strangers[0]!r}, which is no part of a data set; "
            "choose another output folder"
        )
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if out.is_dir():
            (out / ".writable").touch()
            (out / ".writable").unlink()
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"cannot write {out}: {error.strerror}; choose another output folder") from error
    return partial


def _put(partial: Path, out: Path) -> None:
    """Swap the finished folder in."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _assign_splits(drafts: Sequence[Draft], mapping: Mapping, log: EventLog | None, seed: int) -> None:
    """Give every list without a split of its own one by the mapping's rule."""
    rule = mapping.split
    open_ones = [d for d in drafts if d.split == UNKNOWN]
    if open_ones:
        if rule.by == "time":
            times = np.array([d.time for d in open_ones], dtype=np.int64)
            if (times == NO_TIME).any():
                where = open_ones[int(np.argmax(times == NO_TIME))].place
                raise InputError(
                    f"{where}: the split is by time, but the list has none; "
                    "map a time, or set split.by to user, query or column"
                )
            codes = by_time(
                times, log.cuts if log is not None and log.cuts else time_cuts(times, rule.valid, rule.test)
            )
        elif rule.by in ("user", "query"):
            keys = [d.user_id if rule.by == "user" else d.query for d in open_ones]
            codes = by_share(keys, rule.valid, rule.test, seed)
        else:
            raise no_split(open_ones[0].place)
        for draft, code in zip(open_ones, codes):
            draft.split = int(code)
    if rule.valid_from_train > 0 and not any(d.split == VALID for d in drafts):
        for draft in drafts:
            key = draft.query if draft.user_id == ANYONE else draft.user_id
            if draft.split == TRAIN and share(key, seed + 1) < rule.valid_from_train:
                draft.split = VALID


def _split_events(log: EventLog, drafts: Sequence[Draft]) -> None:
    """Events that no rule put into a split: those before the first valid or test list are train, the others test."""
    held_out = [d.time for d in drafts if d.split in (VALID, TEST)]
    if not (log.split == UNKNOWN).all() or not log.timed or not drafts or NO_TIME in held_out:
        return
    log.split = np.where(log.key < min(held_out, default=int(log.key.max()) + 1), TRAIN, TEST).astype(np.int8)


def _cut(drafts: list[Draft], limit: int | None, books: Accounts) -> list[Draft]:
    if limit is None:
        return drafts
    seen: Counter[int] = Counter()
    kept = []
    for draft in drafts:
        seen[draft.split] += 1
        if seen[draft.split] <= limit:
            kept.append(draft)
    books.read("lists before --limit", len(drafts))
    books.keep("lists before --limit", len(kept))
    books.drop("lists before --limit", f"more than {limit} per split", len(drafts) - len(kept))
    return kept


def _guard(drafts: list[Draft], books: Accounts) -> list[Draft]:
    """Keep a shopper's lists of their latest split only."""
    latest: dict[str, int] = {}
    for draft in drafts:
        if draft.user_id != ANYONE:
            latest[draft.user_id] = max(draft.split, latest.get(draft.user_id, TRAIN))
    kept = [d for d in drafts if d.split == latest.get(d.user_id, d.split)]
    books.read("lists before guard_users", len(drafts))
    books.keep("lists before guard_users", len(kept))
    books.drop("lists before guard_users", "shopper also in a later split", len(drafts) - len(kept))
    return kept


def _check_ids(drafts: Sequence[Draft]) -> None:
    places: dict[str, str] = {}
    for draft in drafts:
        if draft.list_id in places:
            raise InputError(
                f"{draft.place}, field list_id: {draft.list_id!r} is there already ({places[draft.list_id]}); "
                "list ids must be unique"
            )
        places[draft.list_id] = draft.place


def _add_signals(
    drafts: Sequence[Draft], mapping: Mapping, catalogue: Sequence[Item], log: EventLog | None, rows: dict[str, int]
) -> None:
    spec = mapping.signals
    signals = make_signals(spec, catalogue, log)
    if signals is None:
        return
    asks = []
    for draft in drafts:
        if draft.history is not None:
            history = np.array([rows[e.item_id] for e in draft.history if e.item_id is not None], dtype=np.int64)
        else:
            past = log.item[draft.past] if log is not None else np.zeros(0, dtype=np.int64)
            history = past[past >= 0].astype(np.int64)
        if mapping.max_history == 0:
            history = history[:0]  # shoppers of whom nothing is known: signals must not know more
        user = log.codes.get(draft.user_id, -1) if log is not None and draft.split == TRAIN else -1
        asks.append(Ask(history, draft.candidates, draft.query, draft.time, user))
    names = list(dict.fromkeys([*spec.names, *spec.first_stage]))
    values_of = signals.compute(asks, [name for name in names if name not in OUTCOMES])
    if any(name in OUTCOMES for name in names):
        values_of = [a | b for a, b in zip(values_of, _outcomes(drafts, catalogue), strict=True)]
    for draft, values in zip(drafts, values_of):
        if spec.first_stage:
            draft.scores = sum((w * values[n] for n, w in spec.first_stage.items()), np.zeros(len(draft.candidates)))
        draft.features = {name: values[name] for name in spec.names}
        if spec.first_stage and draft.scores is not None:
            draft.reorder(np.argsort(-draft.scores, kind="stable"))


def _outcomes(drafts: Sequence[Draft], catalogue: Sequence[Item]) -> list[dict[str, np.ndarray]]:
    """Signals counted on the labels of the train lists, for every list."""
    shown = [Shown(draft.user_id, draft.candidates, draft.labels > 0) for draft in drafts]
    train = [one for one, draft in zip(shown, drafts, strict=True) if draft.split == TRAIN]
    outcomes = Outcomes(train, [item.category for item in catalogue])
    return [outcomes.compute([one], draft.split == TRAIN)[0] for one, draft in zip(shown, drafts, strict=True)]


def _facts(lists: Sequence[Any]) -> dict[str, Any]:
    grades = Counter(label for ranking in lists for label in ranking.labels or ())
    return {
        "lists": len(lists),
        "users": len({r.user_id for r in lists}),
        "queries": len({r.query for r in lists if r.query}),
        "candidates_per_list": float(np.mean([len(r.candidates) for r in lists])),
        "events_per_history": float(np.mean([len(r.history) for r in lists])),
        "empty_histories": sum(not r.history for r in lists),
        "without_positive": sum(not any(r.labels or ()) for r in lists),
        **{f"grade_{grade}": grades[grade] for grade in range(4)},
    }

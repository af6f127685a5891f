"""What is in a data set folder: counts, list sizes, labels, history lengths, and one list as a person would read it.

reshelf data show --data runs/beauty_search/data --split test --number 3
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.import_report import joins_table
from reshelf.data.schema import GRADES, Event, Item, RankingList
from reshelf.errors import InputError
from reshelf.ranges import AT_LEAST_0, AT_LEAST_1, check_numbers
from reshelf.unicode import printable


@dataclass
class ShowConfig:
    """Options of `reshelf data show`."""

    data: Path
    """Data set folder."""
    split: str | None = None
    """Split of the sample list: train, valid or test; default the last one that is there."""
    number: int = 0
    """Which list of that split to show, counted from 0."""
    rows: int = 10
    """How many of its candidates and history events to show."""

    def __post_init__(self) -> None:
        check_numbers(self, {"number": AT_LEAST_0, "rows": AT_LEAST_1})


def show(config: ShowConfig) -> None:
    """Print a summary.

    Raises:
        InputError: there is no such data set, split or list.
    """
    data = load_dataset_folder(config.data)
    split = config.split or next(reversed(data.lists))
    if split not in data.lists:
        raise InputError(f"{config.data} has no {split}.parquet; it has {', '.join(data.lists)}")
    if config.number >= len(data.lists[split]):
        raise InputError(
            f"{config.data / f'{split}.parquet'} has {len(data.lists[split])} lists; list {config.number} is not there"
        )
    console = Console()
    console.print(items_table(data.items))
    console.print(splits_table(data))
    report = config.data / "report.json"
    if report.is_file():
        facts = json.loads(report.read_text(encoding="utf-8"))
        for line in losses(facts):
            console.print(line)
        if "joins" in facts:
            console.print(joins_table(facts["joins"], facts["lists"]))
        for sentence in facts.get("warnings", ()):
            console.print(f"Warning: {_safe(sentence)}", style="yellow")
    for part in sample(data.lists[split][config.number], data.items, config.rows):
        console.print(part)


def items_table(items: Mapping[str, Item]) -> Table:
    """How many items there are, and how many of them have each field."""
    table = Table(title=f"{len(items):,} items")
    table.add_column("field")
    table.add_column("known", justify="right")
    table.add_column("example")
    for name in ("title", "category", "brand", "price", "rating", "rating_count", "attributes", "description", "image"):
        known = [value for item in items.values() if (value := getattr(item, name)) not in (None, (), {})]
        example = "" if not known else " > ".join(known[0]) if name == "category" else str(known[0])
        table.add_row(name, f"{len(known) / max(len(items), 1):.0%}", _safe(_short(example, 70)))
    return table


def splits_table(data: RankingData) -> Table:
    """One column per split."""
    table = Table(title="Lists")
    table.add_column("")
    rows: dict[str, list[str]] = {}
    for split, lists in data.lists.items():
        table.add_column(split, justify="right")
        for name, value in facts(lists).items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def facts(lists: Sequence[RankingList]) -> dict[str, str]:
    """Numbers about the lists of one split, ready to print."""
    sizes = np.array([len(r.candidates) for r in lists])
    pasts = np.array([len(r.history) for r in lists])
    labels = Counter(label for r in lists for label in r.labels or ())
    times = [r.time for r in lists if r.time is not None]
    names = sorted({name for r in lists for name in r.features})
    return {
        "lists": f"{len(lists):,}",
        "shoppers": f"{len({r.user_id for r in lists}):,}",
        "different queries": f"{len({r.query for r in lists if r.query}):,}",
        "without a query": f"{sum(not r.query for r in lists):,}",
        "candidates per list (least, median, most)": _range(sizes),
        "history events (least, median, most)": _range(pasts),
        "empty histories": f"{int((pasts == 0).sum()):,}",
        "without labels": f"{sum(r.labels is None for r in lists):,}",
        "without a positive label": f"{sum(r.labels is not None and not any(r.labels) for r in lists):,}",
        **{f"label {grade} ({name})": f"{labels[grade]:,}" for grade, name in GRADES.items()},
        "first list": f"{min(times):%Y-%m-%d %H:%M}" if times else "no times",
        "last list": f"{max(times):%Y-%m-%d %H:%M}" if times else "no times",
        "features": ", ".join(names) or "none",
    }


def losses(report: Mapping[str, Any]) -> list[str]:
    """What the import dropped and repaired, one sentence each."""
    lines = []
    for table, counts in report.get("tables", {}).items():
        for what in ("dropped", "repaired"):
            for reason, n in counts[what].items():
                some = ", ".join(counts.get("examples", {}).get(reason, ()))
                lines.append(
                    f"{what} of {table}: {n:,} of {counts['read']:,} rows: {reason}" + f" ({some})" * bool(some)
                )
    return [_safe(line) for line in lines]


def sample(ranking: RankingList, items: Mapping[str, Item], rows: int) -> list[Table]:
    """One list as two tables: the shopper's latest events, and the first candidates."""
    past = Table(
        title=_safe(
            f"What {ranking.user_id} did before list {ranking.list_id} (latest {min(rows, len(ranking.history))})"
        )
    )
    for name in ("kind", "when", "what"):
        past.add_column(name)
    for event in ranking.history[-rows:] if rows else ():
        past.add_row(event.kind.value, f"{event.time:%Y-%m-%d %H:%M}" if event.time else "", _safe(_what(event, items)))
    shown = Table(
        title=_safe(
            f"Query: {ranking.query or '(none)'}; "
            f"{min(rows, len(ranking.candidates))} of {len(ranking.candidates)} candidates, first-stage order"
        )
    )
    shown.add_column("#", justify="right")
    shown.add_column("label")
    shown.add_column("item")
    if ranking.scores is not None:
        shown.add_column("score", justify="right")
    for name in ranking.features:
        shown.add_column(name, justify="right")
    for i, item_id in enumerate(ranking.candidates[:rows]):
        cells = [
            str(i + 1),
            GRADES[ranking.labels[i]] if ranking.labels is not None else "",
            _safe(describe(items[item_id])),
        ]
        if ranking.scores is not None:
            cells.append(f"{ranking.scores[i]:.3f}")
        shown.add_row(*cells, *(f"{values[i]:.3f}" for values in ranking.features.values()))
    return [past, shown]


def describe(item: Item) -> str:
    """An item in one line."""
    price = "" if item.price is None else f", {item.price:g} {item.currency or ''}".rstrip()
    brand = f" ({item.brand})" if item.brand else ""
    return f"{_short(item.title, 60)}{brand}{price}"


def _what(event: Event, items: Mapping[str, Item]) -> str:
    if event.item_id is None:
        return f"“{event.query}”"
    stars = "" if event.value is None else f": {event.value:g}"
    return describe(items[event.item_id]) + stars


def _safe(text: str) -> str:
    """Neither markup nor what a terminal would obey."""
    return escape(printable(text))


def _range(values: np.ndarray) -> str:
    return f"{values.min():,} / {np.median(values):,.0f} / {values.max():,}" if len(values) else "-"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

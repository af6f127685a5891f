"""What an import read, kept, dropped, repaired and joined, and what looks wrong about it: `report.json` and the screen.

    report = ImportReport()
    report.read("events", 100);  report.drop("events", "kind not mapped", 3);  report.keep("events", 97)
    report.check()

Of every table, rows read = rows kept + rows dropped; `check` holds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reshelf.data.language import Language
from reshelf.errors import InputError
from reshelf.unicode import printable

SHARES = {
    "events_with_item": "events whose item is in the catalogue",
    "events_with_lists": "events whose shopper has lists",
    "events_with_named_list": "events that name a list and found it",
    "share_with_history": "lists with a history, by split",
    "share_with_outcome": "lists with an outcome, by split",
}
"""Facts about the lists of a split, and what they are called on the screen."""
UNMAPPED = "kind not mapped"
_EXAMPLES, _KINDS = 3, 20
_LONGEST = 40


@dataclass
class ImportReport:
    """Counts by table and reason."""

    rows_read: Counter[str] = field(default_factory=Counter)
    rows_kept: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    repaired: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Up to three of what was dropped or repaired, as written, by table and reason; of kinds not mapped more."""
    language: Language = "en"
    """Of the catalogue: what prompts, reports and explanations will be written in."""
    lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Facts about the lists of each split."""
    joins: dict[str, float] = field(default_factory=dict)
    """Shares of events and lists that found each other; see `join_report`."""
    taken_back: int = 0
    """Events that a later one took back: removed from the cart, refunded."""
    local_times: dict[str, bool] = field(default_factory=dict)
    """Of tables without a `timezone`: whether they have times without an offset."""
    warnings: list[str] = field(default_factory=list)
    """What looks wrong, one sentence each."""

    def read(self, table: str, n: int) -> None:
        self.rows_read[table] += n

    def keep(self, table: str, n: int) -> None:
        self.rows_kept[table] += n

    def drop(self, table: str, reason: str, n: int, examples: Iterable[str] = ()) -> None:
        if n:
            self.dropped.setdefault(table, Counter())[reason] += int(n)
            self._show(table, reason, examples)

    def repair(self, table: str, reason: str, n: int, examples: Iterable[str] = ()) -> None:
        if n:
            self.repaired.setdefault(table, Counter())[reason] += int(n)
            self._show(table, reason, examples)

    def _show(self, table: str, reason: str, examples: Iterable[str]) -> None:
        known = self.examples.setdefault(table, {}).setdefault(reason, [])
        for text in examples:
            if len(known) >= (_KINDS if reason == UNMAPPED else _EXAMPLES):
                break
            known += [_short(text)] * (_short(text) not in known)

    def _reason(self, table: str, reason: str) -> str:
        """A reason with its examples."""
        found = self.examples.get(table, {}).get(reason)
        return f"{reason} ({', '.join(found)})" if found else reason

    def reasons(self, table: str) -> str:
        """`item not in the catalogue: 12, repeated row: 3`, what was dropped of a table."""
        counts = sorted(self.dropped.get(table, {}).items())
        return ", ".join(f"{self._reason(table, reason)}: {n}" for reason, n in counts)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def nothing_left(self) -> InputError:
        """What is wrong where every list was dropped, with the reasons."""
        dropped = "; ".join(f"of {table}, {self.reasons(table)}" for table in sorted(self.dropped)) or "nothing dropped"
        return InputError(f"no list is left of this import ({dropped}); correct the mapping, or give a longer log")

    def check(self) -> None:
        """Raises:
        RuntimeError: rows went missing without a reason: a mistake of this program.
        """
        for table, n in self.rows_read.items():
            gone = sum(self.dropped.get(table, Counter()).values())
            if n != self.rows_kept[table] + gone:
                raise RuntimeError(f"{table}: {n} rows read, {self.rows_kept[table]} kept, {gone} dropped for a reason")

    def to_json(self) -> dict[str, Any]:
        tables = {
            table: {
                "read": n,
                "kept": self.rows_kept[table],
                "dropped": dict(self.dropped.get(table, {})),
                "repaired": dict(self.repaired.get(table, {})),
                "examples": {reason: list(found) for reason, found in self.examples.get(table, {}).items() if found},
            }
            for table, n in self.rows_read.items()
        }
        return {
            "tables": tables,
            "language": self.language,
            "joins": self.joins,
            "taken_back": self.taken_back,
            "lists": self.lists,
            "warnings": self.warnings,
        }

    def show(self, console: Console) -> None:
        """Print what was read and what became of it, and the lists by split."""
        table = Table(title="What was read")
        for name in ("table", "read", "kept", "dropped", "repaired"):
            table.add_column(name, justify="left" if name == "table" else "right")
        for name, n in self.rows_read.items():
            gone = self.dropped.get(name, Counter())
            mended = self.repaired.get(name, Counter())
            table.add_row(
                name, f"{n:,}", f"{self.rows_kept[name]:,}", f"{sum(gone.values()):,}", f"{sum(mended.values()):,}"
            )
            for reason, count in gone.items():
                table.add_row(f"  dropped: {escape(self._reason(name, reason))}", "", "", f"{count:,}", "")
            for reason, count in mended.items():
                table.add_row(f"  repaired: {escape(self._reason(name, reason))}", "", "", "", f"{count:,}")
        console.print(table)
        table = Table(title="Lists")
        table.add_column("")
        for split in self.lists:
            table.add_column(split, justify="right")
        for name in dict.fromkeys(key for facts in self.lists.values() for key in facts if key not in SHARES):
            table.add_row(name.replace("_", " "), *(_text(facts.get(name, "")) for facts in self.lists.values()))
        console.print(table)
        console.print(joins_table(self.joins, self.lists))
        for sentence in self.warnings:
            console.print(f"Warning: {escape(sentence)}", style="yellow")


def joins_table(joins: Mapping[str, float], lists: Mapping[str, Mapping[str, Any]]) -> Table:
    """What share of events and lists found each other: of everything that was read, and of the lists of each split."""
    table = Table(title="What found what")
    for name in ("", "all", *lists):
        table.add_column(name, justify="right" if name else "left")
    facts_of = {name: key for key, name in SHARES.items()}
    for name in dict.fromkeys((*joins, *facts_of)):
        found = [joins.get(name), *(facts.get(facts_of.get(name, "")) for facts in lists.values())]
        table.add_row(name, *("" if share is None else f"{share:.1%}" for share in found))
    return table


def _short(text: object) -> str:
    """In one line, without characters that a terminal would obey."""
    line = printable(text)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _text(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

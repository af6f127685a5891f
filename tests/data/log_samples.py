"""The small samples of real log layouts (`samples/NAME`), imported by the mapping that ships for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from reshelf.data.dataset_folder import RankingData
from reshelf.data.importing.importer import ImportConfig, import_logs
from reshelf.data.schema import RankingList

SAMPLES = Path(__file__).parent / "samples"


class Seen(NamedTuple):
    """What a list says, in few characters."""

    user: str
    time: str
    """UTC, `03-01 10:00`."""
    query: str
    labels: str
    """`7:0 8:2`, in the order of candidates."""
    history: str
    """`click 8, cart 8`, oldest first."""


def imported(name: str, out: Path, root: Path | None = None, **changes: Any) -> tuple[RankingData, dict[str, Any]]:
    """The data set and its report; `changes` with `__` for a dot: `split__valid=0.2`."""
    data = import_logs(
        ImportConfig(
            mapping=name,
            root=root or SAMPLES / name,
            out=out / "data",
            quiet=True,
            changes={key.replace("__", "."): value for key, value in changes.items()},
        )
    )
    return data, json.loads((out / "data" / "report.json").read_text())


def copied(name: str, to: Path) -> Path:
    """A copy of a sample, to change files in."""
    return Path(shutil.copytree(SAMPLES / name, to / name))


def lists_of(data: RankingData) -> list[RankingList]:
    """All lists, oldest first."""
    every = [ranking for lists in data.lists.values() for ranking in lists]
    return sorted(every, key=lambda r: (r.time is not None and r.time.isoformat(), r.user_id, r.list_id))


def seen(data: RankingData) -> list[Seen]:
    """All lists in short, oldest first."""
    return [short(ranking) for ranking in lists_of(data)]


def short(ranking: RankingList) -> Seen:
    return Seen(
        user=ranking.user_id,
        time=f"{ranking.time:%m-%d %H:%M}" if ranking.time else "",
        query=ranking.query,
        labels=" ".join(f"{c}:{g}" for c, g in zip(ranking.candidates, ranking.labels or (), strict=True)),
        history=past(ranking),
    )


def past(ranking: RankingList) -> str:
    return ", ".join(f"{event.kind} {event.item_id}" for event in ranking.history)


def chosen(data: RankingData) -> dict[str, list[tuple[str, str, str, str]]]:
    """Of lists built from events, by split: shopper, time, what was chosen (`8:2`) and the history."""
    return {
        split: sorted(
            (
                ranking.user_id,
                f"{ranking.time:%m-%d %H:%M}" if ranking.time else "",
                " ".join(f"{c}:{g}" for c, g in zip(ranking.candidates, ranking.labels or (), strict=True) if g),
                past(ranking),
            )
            for ranking in lists
        )
        for split, lists in data.lists.items()
    }

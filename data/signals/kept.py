"""The signals that a data set folder, and the reranker finetuned on it, keep to compute numbers for later lists.

    keep_signals(out / "signals", signals, item_ids, ["popularity", "bm25"])         # at import
    copy_signals(data / "signals", model / "signals", ["bm25"])                      # at finetuning
    kept = open_signals(model / "signals");  kept.compute(ranking, ["bm25"])         # for a request

A folder holds one file per table (`data.signals.tables`) and `signals.json`: which signals it has, how they are
counted, when it was made, and the fingerprint of its files. What is computed for a list is what the import computes
for a list of valid or test with the same time, history, query and candidates.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from reshelf.data.atomic import atomic_folder
from reshelf.data.dataset_folder import problem_of
from reshelf.data.hashes import file_sha256
from reshelf.data.schema import RankingList
from reshelf.data.signals import FOLLOWING, READS, Ask, Signals
from reshelf.data.signals.event_log import NEVER
from reshelf.data.signals.live import LiveEvents, Since
from reshelf.data.signals.query_clicks import QUERY_CLICKS
from reshelf.data.signals.tables import Groups, Tables, read_tables, write_tables
from reshelf.errors import InputError

FOLDER = "signals"
"""Its name in a data set folder and in a reranker's."""
DESCRIPTION = "signals.json"
FIRST_STAGE = "first_stage"
FORMAT = 1
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_LEAST_SAME = 0.1
"""Share of the products that newer tables must still know; catalogues change, and two shops share next to none."""
_LEAST_COUNTED = 0.5
"""Share of the events that newer tables must count: a log grows, and one that is kept for some months stays as long."""
_COUNTS = {"counts": "popularity", "times": "recent", "takers": "cobought", "click_times": QUERY_CLICKS[0]}
"""Tables whose size is that of the log, and a signal that each is for."""
_ITEMS = "items"
"""The table of item ids, in catalogue order."""


@dataclass(frozen=True)
class Description:
    """What `signals.json` says."""

    names: list[str]
    """The signals that can be computed."""
    history: int
    """As in `Signals`, and so `decay` and `recent_days`."""
    decay: float
    recent_days: float
    first_stage: dict[str, float] = field(default_factory=dict)
    """Signal to weight, where first-stage scores are a weighted sum of signals."""
    made: str = ""
    """When the tables were made, ISO 8601."""
    until: str = ""
    """Time of the last event that is counted in them, ISO 8601; empty where the log does not say, as if that were
    `made`."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every table's file, by its name."""

    @property
    def computed(self) -> tuple[str, ...]:
        """What can be computed: names of signals, and `first_stage` where its scores are a sum of signals."""
        return (*self.names, *((FIRST_STAGE,) if self.first_stage else ()))

    @property
    def until_time(self) -> datetime | None:
        """Time of the last event that is counted, in UTC; None where nothing says."""
        said = self.until or self.made
        return datetime.fromisoformat(said).astimezone(UTC) if said else None


class KeptSignals:
    """Signals that were kept, for later lists.

    Args:
        description: what they are.
        tables: what they are computed from.
    """

    def __init__(self, description: Description, tables: Tables) -> None:
        self.description = description
        self._signals = Signals(tables, description.history, description.decay, description.recent_days)
        self._row = {item_id: row for row, item_id in enumerate(tables[_ITEMS].to_pylist())}  # type: ignore[union-attr]

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The products that are known, in catalogue order."""
        return tuple(self._row)

    @property
    def names(self) -> tuple[str, ...]:
        """What can be computed."""
        return self.description.computed

    @property
    def follows(self) -> bool:
        """Whether something that is computed follows new events."""
        return any(name in FOLLOWING for name in (*self.description.names, *self.description.first_stage))

    @cached_property
    def until(self) -> int:
        """Time of the last event that the tables count, microseconds since 1970 UTC."""
        end = self.description.until_time
        return NEVER if end is None else (end - _EPOCH) // _MICROSECOND

    def compute(
        self, ranking: RankingList, names: Iterable[str], live: LiveEvents | None = None
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Signals of a list's candidates as of its time, or as of now, by name; those that are not kept are left out.

        Args:
            live: what happened since the tables were made.

        Returns:
            float64 [K] each; NaN for candidates that the tables do not know.
        """
        wanted = [name for name in names if name in self.names]
        weights = self.description.first_stage if FIRST_STAGE in wanted else {}
        needed = list(dict.fromkeys([*(name for name in wanted if name != FIRST_STAGE), *weights]))
        rows = np.array([self._row.get(item_id, -1) for item_id in ranking.candidates], dtype=np.int32)
        known = rows >= 0
        found = dict.fromkeys(needed, np.zeros(0))
        if known.any():
            past = [self._row[e.item_id] for e in ranking.history if e.item_id is not None and e.item_id in self._row]
            moment = ((ranking.time or datetime.now(UTC)) - _EPOCH) // _MICROSECOND
            since = None
            if live is not None:
                named = (*ranking.candidates, *(event.item_id or "" for event in ranking.history))
                items = {self._row[item_id]: item_id for item_id in named if item_id in self._row}
                since = Since(live, items, self._row, self.until, moment)
            ask = Ask(np.array(past, dtype=np.int64), rows[known], ranking.query, moment, since=since)
            (found,) = self._signals.compute([ask], needed)
        if weights:
            found[FIRST_STAGE] = sum((w * found[name] for name, w in weights.items()), np.zeros(int(known.sum())))
        return {name: _spread(found[name], known) for name in wanted}


def _spread(values: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    whole = np.full(len(known), np.nan)
    whole[known] = values
    return whole


def keep_signals(
    folder: Path, signals: Signals, item_ids: pa.StringArray, names: Sequence[str],
    first_stage: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """Write the tables of those of the named signals that can be computed later: all but those of list outcomes.

    Args:
        folder: to be made.
        item_ids: in catalogue order.
        first_stage: weights of the signals that first-stage scores are a sum of.
    """
    names, first_stage = [name for name in names if name in READS], dict(first_stage or {})
    if not set(first_stage) <= set(READS):
        first_stage = {}
    if not names and not first_stage:
        return
    folder.mkdir()
    tables = _tables_of([*names, *first_stage])
    write_tables(folder, signals.tables, tables)
    write_tables(folder, {_ITEMS: item_ids}, [_ITEMS])
    made = datetime.now(UTC).isoformat(timespec="seconds")
    end = signals.counted_until
    until = "" if end is None else (_EPOCH + timedelta(microseconds=end)).isoformat()
    about = Description(names, signals.history, signals.decay, signals.recent_days, first_stage, made, until)
    _describe(folder, about, [_ITEMS, *tables])


def copy_signals(
    source: Path, target: Path, names: Iterable[str], at_least: Path | None = None, shorter: bool = False
) -> tuple[str, ...]:
    """Copy what the named signals are computed from; what was in `target` goes when the copy is whole.

    Args:
        source: kept signals; may be missing.
        names: of a reranker's features; those that `source` cannot compute are passed over.
        at_least: kept signals, all of which the copy must be able to compute.
        shorter: whether it may count less than half of their events.

    Returns:
        The names that can be computed from `target`, which is not there if there are none.

    Raises:
        InputError: `source` cannot be read or is not what its description was written for, or lacks one of `at_least`,
            counts otherwise, is of other products, or of less than half of the events.
    """
    about = _read_description(source) if source.is_dir() else Description([], 0, 0.0, 0.0)
    wanted = set(names)
    first_stage = about.first_stage if FIRST_STAGE in wanted else {}
    kept = replace(about, names=[name for name in about.names if name in wanted], first_stage=first_stage)
    before = (at_least, _read_description(at_least)) if at_least is not None and at_least.is_dir() else None
    if before:
        _check_follows(source, kept, *before)
    if kept.computed:
        with atomic_folder(target, "copy of signals") as partial:
            _copy_tables(source, partial, kept)
            if before and not shorter:
                _check_size(source, _counted(partial, kept), *before)
    elif target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        shutil.rmtree(old)
    return kept.computed


def _check_follows(source: Path, kept: Description, before: Path, was: Description) -> None:
    """What a model was trained on must go on meaning the same: the same signals, counted alike, of the same products.

    Raises:
        InputError: they do not.
    """
    same = "import by the same mapping"
    lost = [name for name in was.computed if name not in kept.computed]
    if lost:
        raise InputError(
            f"{source} does not keep {lost[0]!r}, which {before} has; {same}, and with the signals that "
            f"quickstart adds where a mapping names none: --changes.signals.names '[{','.join(was.computed)}]'"
        )
    for name in ("history", "decay", "recent_days", "first_stage"):
        old, new = getattr(was, name), getattr(kept, name)
        if old != new:
            raise InputError(f"{source}, field {name}: {new}, and the model learned from signals with {old}; {same}")
    products, known = (read_tables(folder, [_ITEMS])[_ITEMS] for folder in (before, source))
    assert isinstance(products, pa.Array)
    stay = pc.sum(pc.is_in(products, value_set=known), min_count=0).as_py()
    if stay < _LEAST_SAME * len(products):
        raise InputError(
            f"{source} knows {stay} of the {len(products)} products that {before} knows: it is of another shop or "
            "catalogue; give the data set of this one, or finetune again"
        )


def _check_size(source: Path, counted: Mapping[str, int], before: Path, was: Description) -> None:
    """A log may lose what is old, not most of it.

    Args:
        counted: by the tables of `source`, by signal.

    Raises:
        InputError: that is less than half of the events that the tables before count.
    """
    for signal, old_size in _counted(before, was).items():
        if (size := counted.get(signal, 0)) < _LEAST_COUNTED * old_size:
            raise InputError(
                f"{source} counts {size} events for {signal}, and {before} counts {old_size}: the log broke off, or "
                f"most of it was dropped ({source.parent / 'report.json'} says why); import the whole log, or give "
                "--shorter if it is meant to be"
            )


def _counted(folder: Path, about: Description) -> dict[str, int]:
    """How many events tables count, by a signal that is computed from them; some count a shopper once an item."""
    stored = _tables_of([*about.names, *about.first_stage])
    tables = read_tables(folder, [table for table in stored if table in _COUNTS])
    sizes = {}
    for name, table in tables.items():
        column = table.values if isinstance(table, Groups) else table
        sizes[_COUNTS[name]] = int(column.sum()) if name == "counts" else len(column)
    return sizes


def _copy_tables(source: Path, folder: Path, kept: Description) -> None:
    tables = [_ITEMS, *_tables_of([*kept.names, *kept.first_stage])]
    for name in tables:
        path = source / f"{name}.arrow"
        try:
            shutil.copyfile(path, folder / path.name)
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there; import again") from error
    made = _describe(folder, kept, tables)
    for name in tables:
        if made[name] != kept.fingerprint.get(name, made[name]):
            raise InputError(
                f"{source / f'{name}.arrow'} is not what {DESCRIPTION} beside it was written for; where an import is "
                "writing there, wait for it to end, else import again"
            )


def open_signals(folder: Path) -> KeptSignals | None:
    """Map kept signals into memory; None where the folder is not there.

    Raises:
        InputError: a file is missing or broken.
    """
    if not folder.is_dir():
        return None
    while True:
        about = _read_description(folder)
        try:
            kept = _mapped(folder, about)
        except InputError:
            if _read_description(folder) == about:
                raise
            continue
        if _read_description(folder) == about:  # else a refresh exchanged it meanwhile, and tables of both were read
            return kept


def _mapped(folder: Path, about: Description) -> KeptSignals:
    tables = read_tables(folder, [_ITEMS, *_tables_of([*about.names, *about.first_stage])])
    try:
        kept = KeptSignals(about, tables)
        if some := kept.item_ids[:1]:
            # What is made of tables at first use (dicts of words, …) is made now, not while a request waits.
            kept.compute(RankingList(list_id="-", user_id="-", query="-", candidates=some), kept.names)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: its tables do not fit together ({error}); finetune again") from error
    return kept


def kept_names(folder: Path) -> tuple[str, ...]:
    """Names of the signals that are kept there; none where the folder is not there.

    Raises:
        InputError: its description is broken.
    """
    return tuple(_read_description(folder).names) if folder.is_dir() else ()


def counted_until(folder: Path) -> str:
    """Time of the last event that kept signals count, ISO 8601 in UTC; empty where the folder is not there.

    Raises:
        InputError: its description is broken.
    """
    if not folder.is_dir():
        return ""
    until = _read_description(folder).until_time
    return "" if until is None else until.isoformat(timespec="seconds")


def _tables_of(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(table for name in names for table in READS[name]))


def _describe(folder: Path, about: Description, tables: Sequence[str]) -> dict[str, str]:
    """Write `signals.json`, which comes last; returns the fingerprint in it."""
    fingerprint = {name: file_sha256(folder / f"{name}.arrow") for name in tables}
    stored = {**asdict(about), "fingerprint": fingerprint, "format": FORMAT}
    (folder / DESCRIPTION).write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    return fingerprint


def _read_description(folder: Path) -> Description:
    path = folder / DESCRIPTION
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.pop("format") != FORMAT:
            raise InputError(f"{path}, field format: this version of reshelf reads format {FORMAT}")
        about = TypeAdapter(Description).validate_python(raw)
        _ = about.until_time
    except ValidationError as error:
        raise InputError(f"{path}, {problem_of(error)}") from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error!r}; restore the file or finetune again") from error
    unknown = [name for name in (*about.names, *about.first_stage) if name not in READS]
    if unknown:
        raise InputError(f"{path}, field names: there is no signal {unknown[0]!r}; finetune again")
    return about

"""Whether the times of a table can be right: readable, and of a year that can be."""

from __future__ import annotations

import time as clock

import numpy as np

from reshelf.data.importing.database import Work
from reshelf.data.importing.mapping import EventsTable, Mapping
from reshelf.data.importing.tables import Source

_UNREAD = 0.01
"""Share of times that may be unreadable."""


def check_times(work: Work, source: Source, table: str, where: str, field: str | None) -> None:
    """More than a hundredth of unreadable times is an error; times with an offset beside times without are a warning.

    Raises:
        InputError: names file, row and field.
    """
    total, bad, row, local, others = work.fetch(
        "SELECT count(*), count(*) FILTER (WHERE unread), min(row) FILTER (WHERE unread), "
        f"count(*) FILTER (WHERE local), count(*) FILTER (WHERE NOT local) FROM {table} WHERE {where}"
    )[0]
    if field and not source.spec.timezone:
        work.report.local_times[source.part] = local > 0
        if local and others:
            work.report.warn(
                f"{local} times of {source.part} have no offset and were read as UTC, {others} say when they were: set "
                f"timezone in {source.part}, UTC if that is right"
            )
    if bad > _UNREAD * total:
        raw = written(source, field, row)
        what = f"{raw!r} is not a time ({bad} of {total} are not)"
        source.fail(row, field or "", f"{what}; give ISO 8601, a number since 1970, or set time_format or time_unit")


def check_plausible(source: Source, table: str, where: str, bad: str, time: str, field: str | None) -> None:
    """More than half of the times in a year that cannot be is an error.

    Raises:
        InputError: names file, row and field.
    """
    total, lost, row, moment = source.work.fetch(
        f"SELECT count(*), count(*) FILTER (WHERE {bad}), min(row) FILTER (WHERE {bad}), arg_min({time}, row) FILTER "
        f"(WHERE {bad}) FROM {table} WHERE {where}"
    )[0]
    if lost > 0.5 * total:
        read = f"{written(source, field, row)!r} is the time {np.datetime64(moment, 'us')}"
        what = f"{read}, and {lost} of {total} are as implausible"
        source.fail(row, field or "", f"{what}; correct time_unit, time_format or earliest in the mapping")


def implausible(time: str, mapping: Mapping) -> str:
    """SQL of whether a list's time is before all that events may have, or in the future."""
    first = min(
        (earliest_of(spec) for spec in mapping.events), default=earliest_of(EventsTable(user_id="", item_id=""))
    )
    return f"({time} < {first} OR {time} > {int((clock.time() + 86_400) * 1e6)})"


def earliest_of(spec: EventsTable) -> int:
    """The first moment that an event may have, in microseconds since 1970 UTC."""
    return int(np.datetime64(spec.earliest, "us").astype(np.int64))


def written(source: Source, column: str | None, row: int) -> object:
    """A value as it is written."""
    text = source.column(column or "").text
    return source.work.fetch(f"SELECT {text} FROM {source.relation} WHERE row = {row} LIMIT 1")[0][0]

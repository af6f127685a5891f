"""What share of events found their shopper's lists, their product and their list: whether the tables of an import fit.

    report_joins(work, mapping)       # fills `report.joins` and adds warnings
    shares_by_split(work, log, lists, cuts)["train"]     # {"events_with_item": 0.98, …}

A share near zero means that two tables name the same thing differently, and the report says what usually is behind it.
"""

from __future__ import annotations

import numpy as np

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.database import Work
from reshelf.data.importing.events import mapped
from reshelf.data.importing.import_report import SHARES
from reshelf.data.importing.lists import Lists
from reshelf.data.importing.mapping import Mapping, PairsTable
from reshelf.data.importing.shown import labelled_by_events, parts_of
from reshelf.data.importing.splits import Cuts, by_time
from reshelf.data.signals.event_log import EventLog, lower_bound

_LOW = 0.01
_DAY = 86_400_000_000
_FEW = 20
"""Fewer than this many events say little about shares."""
_ITEM, _LISTS, _NAMED = SHARES["events_with_item"], SHARES["events_with_lists"], SHARES["events_with_named_list"]
_CAUSES = {
    _ITEM: "ids of another kind or spelling in items and events (SKU and "
    "product, leading zeros, a prefix); map parents or correct the columns",
    _LISTS: "ids of another kind in events and lists (account and session, number and text)",
    _NAMED: "ids of another kind or spelling in events.list_id and the lists",
    "lists with an outcome": "times that do not fit (time zone, unit) or ids of another kind in events and lists",
}
_PLACEHOLDERS = ("", "0", "-1", "null", "none", "nan", "undefined", "anonymous", "guest", "unknown", "n/a")


def report_joins(work: Work, mapping: Mapping) -> None:
    """Count the joins of events and lists, before lists are divided into splits."""
    joins = work.report.joins
    parts = parts_of(mapping)
    lists = work.number("SELECT count(*) FROM head")
    events = work.number("SELECT count(*) FROM log")
    read = sum(n for table, n in work.report.rows_read.items() if table.split(".")[0] == "events")
    if events:
        lost = work.number("SELECT count(*) FROM lost")
        joins[_ITEM] = 1 - lost / max(events + lost, 1)
    if events and parts:
        mine = "SELECT DISTINCT u.code FROM head h JOIN shopper u ON u.id = h.user"
        joins[_LISTS] = work.number(f"SELECT count(*) FROM log WHERE user IN ({mine})") / events
        named = work.number("SELECT count(*) FROM log WHERE list IS NOT NULL")
        if named:
            found = work.number("SELECT count(*) FROM log WHERE list IN (SELECT list FROM head WHERE list IS NOT NULL)")
            joins[_NAMED] = found / named
    by_events = [str(n) for n, (_, spec) in enumerate(parts) if labelled_by_events(spec)]
    if lists and by_events:
        among = f"FROM head WHERE part IN ({', '.join(by_events)})"
        total = max(work.number(f"SELECT count(*) {among}"), 1)
        with_outcome = work.number(f"SELECT count(*) {among} AND number IN (SELECT number FROM outcome)")
        joins["lists with an outcome"] = with_outcome / total
        graded = work.number("SELECT count(*) FROM log WHERE grade > 0")
        if graded:
            touched = work.number("SELECT count(DISTINCT event) FROM touch WHERE grade > 0")
            joins["clicks, carts and purchases that became an outcome"] = touched / graded
    size = min(max(events, read), max(lists, events))
    for name, cause in _CAUSES.items():
        if name in joins and joins[name] < _LOW and (size >= _FEW or joins[name] == 0):
            work.report.warn(f"{name}: {joins[name]:.1%}; likely {cause}")
    _odd_lists(work, mapping)
    if events:
        _shared_users(work, mapping, events)
        _zones(work, mapping)


def shares_by_split(work: Work, log: EventLog, lists: Lists, cuts: Cuts | None) -> dict[str, dict[str, float]]:
    """Of the events of each split: the shares that found their item, lists of their shopper, and the list they name."""
    lost = work.arrays("SELECT user, coalesce(key, 0) AS key FROM lost")
    user, key = lost["user"].astype(np.int64), lost["key"].astype(np.int64)
    if cuts:
        split_lost = by_time(key, cuts)
    else:  # that of what its shopper did next, or last
        low, high = log.starts[user], log.starts[user + 1]
        at = np.minimum(lower_bound(log.key, low, high, key), high - 1)
        split_lost = np.where(low < high, log.split[at] if len(log) else -1, -1)
    listed = lists.part >= 0
    has_lists = np.isin(log.user, lists.user[listed])
    named = work.arrays(
        "SELECT rowid AS event, list IN (SELECT list FROM head WHERE list IS NOT NULL) AS found FROM log "
        "WHERE list IS NOT NULL ORDER BY rowid"
    )
    split_named = log.split[named["event"].astype(np.int64)]
    shares: dict[str, dict[str, float]] = {}
    for code, split in enumerate(SPLITS):
        mine, of_split = log.split == code, split_named == code
        shares[split] = found = {}
        if n := int(mine.sum()):
            found["events_with_item"] = n / (n + int((split_lost == code).sum()))
            if listed.any():
                found["events_with_lists"] = float(has_lists[mine].mean())
            if listed.any() and of_split.any():
                found["events_with_named_list"] = float(named["found"][of_split].mean())
    return shares


def _odd_lists(work: Work, mapping: Mapping) -> None:
    """Rows that are several lists and should be one."""
    for number, (part, spec) in enumerate(parts_of(mapping)):
        total, single = work.fetch(f"SELECT count(*), count(*) FILTER (size = 1) FROM head WHERE part = {number}")[0]
        if single > total / 2 and not (isinstance(spec, PairsTable) and spec.each_row):
            own = "their rows agree in neither list_id nor in shopper, query and time (each has its own millisecond?): "
            cure = "map list_id, or set session_hours" if isinstance(spec, PairsTable) else "there is nothing to rank"
            work.report.warn(
                f"{single} of {total} lists of {part} are one product alone; "
                f"{own if isinstance(spec, PairsTable) else ''}{cure}"
            )


def _shared_users(work: Work, mapping: Mapping, events: int) -> None:
    """Ids that seem to stand for many people."""
    words = ", ".join(f"'{word}'" for word in _PLACEHOLDERS)
    sessions_of = "count(DISTINCT l.session)" if "session" in mapped(mapping) else "0"
    found = work.fetch(
        f"""SELECT s.id, count(*) AS n, {sessions_of} AS sessions FROM checked l JOIN shopper s ON s.code =
            l.user
        GROUP BY s.id HAVING sessions > 200 OR (n > {0.02 * events} AND n >= 50 AND lower(s.id) IN ({words}))
            OR (n > {0.3 * events} AND n >= 500) ORDER BY n DESC LIMIT 5"""
    )
    for user, n, sessions in found:
        why = f"{sessions:,} sessions" if sessions > 200 else f"{n:,} of {events:,} events"
        work.report.warn(
            f"user id {user!r} has {why}: it may stand for many people; leave it out with where, or map a session"
        )


def _zones(work: Work, mapping: Mapping) -> None:
    """A time zone may be missing: local times beside others, or outcomes that all come some whole hours late."""
    local = [part for part, found in work.report.local_times.items() if found]
    if local and not all(work.report.local_times.values()):
        others = [part for part in work.report.local_times if part not in local]
        work.report.warn(
            f"times of {' and '.join(local)} have no offset and were read as UTC, those of {' and '.join(others)} say "
            f"when they were: set timezone in {local[0]}, UTC if that is right"
        )
    if mapping.lists or mapping.pairs:
        whole_days = work.number("SELECT count(*) FROM log WHERE whole_day")
        same_day = work.number(
            "SELECT count(DISTINCT l.rowid) FROM log l JOIN shopper u ON u.code = l.user JOIN head h ON h.user = u.id "
            f"AND h.time > l.key - {_DAY} + 1 AND h.time <= l.key WHERE l.whole_day"
        )
        if same_day:
            work.report.warn(
                f"{same_day} of {whole_days} events of which only the day is known are on the day of a list of their "
                "shopper: they may have come after it, and are left out of its history; export events with the time "
                "of day"
            )
        if whole_days:
            return
    if not (mapping.lists or mapping.pairs) or work.report.joins.get("lists with an outcome", 1.0) >= 0.5:
        return
    found = work.fetch(
        """SELECT round(median(l.key - h.time) / 3600000000.0) AS hours, count(*) FROM log l
        JOIN shopper u ON u.code = l.user JOIN head h ON h.user = u.id JOIN cand c ON c.number = h.number AND c.item =
            l.item
        WHERE l.grade > 0 AND h.time <= (SELECT max(key) FROM log) AND abs(l.key - h.time) < 50400000000"""
    )
    hours, n = found[0] if found else (None, 0)
    if n and hours and abs(hours) >= 1:
        work.report.warn(
            f"events on products shown come about {hours:+.0f} hours from their lists: likely a time zone; set "
            f"timezone in the mapping for the table whose times are local"
        )

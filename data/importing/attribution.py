"""Whose outcome an event is: of the list it names, else of the last list before it that showed its product.

    attribute(work, mapping)     # tables `outcome` (number, item, grade) and `own` (number, event)

An event that names a list is an outcome of that list alone; where one id stands for several lists (`list_id_scope`), of
the shopper's latest one before it that shows the product. Any other event falls to the last list of its shopper, up to
`window_hours` before it, that shows the product (`attribution: every_list`: to each of them); clocks differ, so where
there is none, to the first list up to `skew_seconds` after it. `own` holds the outcomes that are earlier than their
list: they are not its history.
"""

from __future__ import annotations

from reshelf.data.importing.database import Work
from reshelf.data.importing.mapping import ListColumns, Mapping
from reshelf.data.importing.shown import labelled_by_events, parts_of

_HOUR, _SECOND = 3_600_000_000, 1_000_000


def attribute(work: Work, mapping: Mapping) -> None:
    """Attribute the events in `log` to the lists in `head` and `cand`.

    On the way: `shown`, the candidates with the shopper and time of their list; `loose`, events that name no list and
    whose shopper was shown their item; `near`, where these were shown.
    """
    work.task("attributing events to lists")
    parts = [(n, spec) for n, (_, spec) in enumerate(parts_of(mapping)) if labelled_by_events(spec)]
    numbers = ", ".join(str(n) for n, _ in parts)
    work.run(
        f"""CREATE TABLE shown AS SELECT h.number, h.part, u.code AS user, h.time, h.list, c.item FROM cand c
            JOIN head h ON h.number = c.number JOIN shopper u ON u.id = h.user WHERE h.part IN ({numbers})"""
    )
    work.run(
        "CREATE TABLE loose AS SELECT l.rowid AS event, l.user, l.item, l.key, l.grade, l.whole_day FROM log l "
        "SEMI JOIN shown USING (user, item) WHERE l.list IS NULL AND l.grade > 0"
    )
    work.run("CREATE TABLE near AS FROM shown SEMI JOIN loose USING (user, item)")
    work.run("CREATE TABLE touch (number BIGINT, item INTEGER, event BIGINT, key BIGINT, grade TINYINT)")
    _named(work)
    every = [(n, spec) for n, spec in parts if spec.attribution == "every_list"]
    last = [(n, spec) for n, spec in parts if spec.attribution == "last_touch"]
    if every:
        _every_list(work, every)
    if last:
        _last_touch(work, last)
    _early(work, parts)
    work.run(
        "CREATE TABLE outcome AS SELECT number, item, max(grade) AS grade FROM touch WHERE grade > 0 GROUP BY number, "
        "item"
    )
    work.run(
        "CREATE TABLE own AS SELECT DISTINCT t.number, t.event FROM touch t JOIN head h ON h.number = t.number "
        "WHERE t.key < h.time"
    )
    for table in ("shown", "loose", "near"):
        work.run(f"DROP TABLE {table}")


def hide_named(work: Work) -> None:
    """Whatever names a list is no history of it, shown there or not, wherever its labels come from; unless it is of an
    earlier list of that id."""
    work.run(
        """INSERT INTO own SELECT number, event FROM (
            SELECT h.number, h.list, h.user, l.rowid AS event, l.item, l.key FROM log l JOIN head h ON h.list = l.list
            JOIN shopper u ON u.id = h.user AND u.code = l.user WHERE l.key < h.time) named
        WHERE NOT EXISTS (SELECT 1 FROM head e JOIN cand c ON c.number = e.number WHERE e.list = named.list AND
            e.user = named.user AND e.time <= named.key AND (c.item = named.item OR named.item < 0))"""
    )


def _windows(parts: list[tuple[int, ListColumns]]) -> str:
    return "CASE s.part " + " ".join(f"WHEN {n} THEN {int(spec.window_hours * _HOUR)}" for n, spec in parts) + " END"


def _among(parts: list[tuple[int, ListColumns]]) -> str:
    return f"s.part IN ({', '.join(str(n) for n, _ in parts)})"


def _named(work: Work) -> None:
    """Events that name a list: the shopper's, and where several have the id, the latest before the event."""
    work.run(
        """INSERT INTO touch SELECT number, item, event, key, grade FROM (
            SELECT s.number, s.item, l.rowid AS event, l.key, l.grade, row_number() OVER (PARTITION BY l.rowid ORDER BY
                s.user = l.user DESC, coalesce(s.time, 0) <= l.key DESC, abs(l.key - coalesce(s.time, 0)), s.number)
                AS n
            FROM log l JOIN shown s ON s.list = l.list AND s.item = l.item WHERE l.list IS NOT NULL) WHERE n = 1"""
    )


def _every_list(work: Work, parts: list[tuple[int, ListColumns]]) -> None:
    work.run(
        f"""INSERT INTO touch SELECT s.number, s.item, l.event, l.key, l.grade FROM loose l JOIN near s
            ON s.user = l.user AND s.item = l.item AND l.key >= s.time AND l.key < s.time + {_windows(parts)}
            WHERE {_among(parts)}"""
    )


def _last_touch(work: Work, parts: list[tuple[int, ListColumns]]) -> None:
    """The latest list at or before the event whose window is open; of lists at one time the one read last."""
    found = []
    for hours in {spec.window_hours for _, spec in parts}:  # one window's latest list is open if any of its lists is
        among = _among([(n, spec) for n, spec in parts if spec.window_hours == hours])
        found.append(
            f"""SELECT l.event, l.item, l.key, l.grade, s.number, s.time FROM loose l ASOF JOIN (
                SELECT user, item, time, max(number) AS number FROM near s WHERE {among} GROUP BY user, item, time
            ) s ON s.user = l.user AND s.item = l.item AND l.key >= s.time
            WHERE l.key < s.time + {int(hours * _HOUR)}"""
        )
    latest = "QUALIFY row_number() OVER (PARTITION BY event ORDER BY time DESC, number DESC) = 1"
    rows = " UNION ALL ".join(found)
    work.run(
        f"INSERT INTO touch SELECT number, item, event, key, grade FROM ({rows}) {latest if len(found) > 1 else ''}"
    )


def _early(work: Work, parts: list[tuple[int, ListColumns]]) -> None:
    """Events that no list before them explains, but one a moment after."""
    skew = "CASE s.part " + " ".join(f"WHEN {n} THEN {int(spec.skew_seconds * _SECOND)}" for n, spec in parts) + " END"
    work.run(
        f"""INSERT INTO touch SELECT number, item, event, key, grade FROM (
            SELECT l.event, l.item, l.key, l.grade, s.number, s.time - {skew} AS since FROM
                (SELECT * FROM loose WHERE NOT whole_day AND event NOT IN (SELECT event FROM touch)) l ASOF JOIN (
                SELECT user, item, time, min(number) AS number, arg_min(part, number) AS part FROM near GROUP BY
                    user, item, time
            ) s ON s.user = l.user AND s.item = l.item AND l.key < s.time
        ) WHERE key >= since"""
    )

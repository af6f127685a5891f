"""List ids that come again: what was shown under one id at another time is a list of its own.

divide(work, number)            # rows of a pairs table in `shown`, before they are put together
name_again(work, source, number)      # lists of one id in `head`: L1, L1/2, …

The pages of one list come within minutes of each other. Rows of one id with a longer pause between them are several
lists if one of them shows a product or a place again, or if they are more than a day apart. Lists of one id for several
shoppers or queries are an error (`lists`): only their owner knows what tells them apart.
"""

from __future__ import annotations

from reshelf.data.importing.database import Work
from reshelf.data.importing.tables import Source

_PAUSE, _DAY = 1_800_000_000, 86_400_000_000
"""Microseconds. Half an hour is where a visit ends, for most who count visits."""


def divide(work: Work, number: int) -> None:
    """Give rows of a pairs table that are other lists of their id a `gkey` of their own."""
    rows = f"shown WHERE part = {number} AND time IS NOT NULL"
    work.run(
        f"""CREATE TABLE visit AS WITH paused AS (
            SELECT row, gkey, coalesce(CAST(item AS VARCHAR), unknown) AS what, place, time,
                coalesce(time - lag(time) OVER w > {_PAUSE}, false) AS begins
            FROM {rows} AND gkey IN (SELECT gkey FROM {rows} GROUP BY gkey HAVING max(time) - min(time) > {_PAUSE})
            WINDOW w AS (PARTITION BY gkey ORDER BY time, row))
        SELECT *, count(*) FILTER (begins) OVER (PARTITION BY gkey ORDER BY time, row) AS visit FROM paused"""
    )
    again = [f"SELECT gkey FROM visit GROUP BY gkey HAVING max(time) - min(time) > {_DAY}"]
    for shown in ("what", "place"):
        again.append(
            f"SELECT gkey FROM visit WHERE {shown} IS NOT NULL GROUP BY gkey, {shown} HAVING min(visit) < max(visit)"
        )
    work.run(
        "UPDATE shown SET gkey = shown.gkey || chr(31) || visit.visit FROM visit WHERE shown.row = visit.row AND "
        f"shown.part = {number} AND visit.visit > 0 AND visit.gkey IN ({' UNION '.join(again)})"
    )
    work.run("DROP TABLE visit")


def name_again(work: Work, source: Source, number: int) -> None:
    """Number the lists of one id whose times are apart, in `head`; counted. Others stay, and are an error."""
    work.run(
        f"""CREATE TABLE renamed AS SELECT number, list_text || '/' || n AS list_text FROM (
            SELECT number, list_text, row_number() OVER w AS n, min(pause) OVER (PARTITION BY list_text) AS shortest
            FROM (SELECT number, list_text, time, time - lag(time) OVER w AS pause FROM head
                WHERE part = {number} AND list_text IS NOT NULL WINDOW w AS (PARTITION BY list_text ORDER BY time))
            WINDOW w AS (PARTITION BY list_text ORDER BY time)) WHERE n > 1 AND shortest > {_PAUSE}"""
    )
    names = [name for (name,) in work.fetch("SELECT list_text FROM renamed ORDER BY number")]
    what = "list id used again more than half an hour later, a list of its own"
    work.report.repair(source.part, what, len(names), names)
    work.run("UPDATE head SET list_text = renamed.list_text FROM renamed WHERE head.number = renamed.number")
    work.run("DROP TABLE renamed")

"""List ids that come again: the same list once more, or another list under the same id.

merge_again(work, part, labels) # rows that hold whole lists, in `listed`
divide(work, number)            # rows of a pairs table in `shown`, before they are put together
count_merged(work, part, number)
name_again(work, part, number)  # lists of one id in `head`: L1, L1/2, …

A row that holds a whole list and says the same as an earlier one within half an hour is that list, delivered again or
clicked again; any other row is a list of its own. Of rows with one product each, those of one id are one list, for the
pages of a list come within minutes of each other; after a longer pause they are another list if they show a product or
a place again, or are more than a day apart. Rows of one time for several shoppers or queries are an error (`lists`):
only their owner knows what tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from reshelf.data.importing.database import Work

_PAUSE, _DAY = 1_800_000_000, 86_400_000_000
"""Microseconds. Half an hour is where a visit ends, for most who count visits."""


def merge_again(work: Work, part: str, labels: Sequence[str]) -> None:
    """Of rows with one id, shopper, query and results within half an hour: those with other labels get the `gkey` of
    the first, so that the best label counts; the others are dropped, counted.

    Args:
        labels: the columns of `listed` with labels.
    """
    said = "list_text, user, query, context, split, results"
    same = ", ".join([said, "visit", *labels])
    work.run(
        f"""CREATE TABLE again AS WITH paused AS (
            SELECT *, coalesce(time - lag(time) OVER w > {_PAUSE}, false) AS begins FROM listed
            WHERE list_text IN (SELECT list_text FROM listed GROUP BY list_text HAVING count(*) > 1)
            WINDOW w AS (PARTITION BY {said} ORDER BY time, row)
        ), divided AS (
            SELECT *, count(*) FILTER (begins) OVER (PARTITION BY {said} ORDER BY time, row) AS visit FROM paused)
        SELECT row, first_value(gkey) OVER (PARTITION BY {said}, visit ORDER BY time, row) AS gkey,
            row_number() OVER (PARTITION BY {same} ORDER BY time, row) AS n FROM divided"""
    )
    work.report.drop(part, "list delivered again", work.number("SELECT count(*) FROM again WHERE n > 1"))
    work.run("DELETE FROM listed WHERE row IN (SELECT row FROM again WHERE n > 1)")
    work.run(
        "UPDATE listed SET gkey = again.gkey FROM again WHERE again.row = listed.row AND again.gkey <> listed.gkey"
    )
    work.run("DROP TABLE again")


def divide(work: Work, number: int) -> None:
    """Give rows of a pairs table that are other lists of their id a `gkey` of their own.

    Chosen products that were shown before under the id are no list: they are what came of the one before.
    """
    rows = f"shown WHERE part = {number} AND time IS NOT NULL"
    work.run(
        f"""CREATE TABLE visit AS WITH paused AS (
            SELECT row, gkey, coalesce(CAST(item AS VARCHAR), unknown) AS what, place, time, label,
                coalesce(time - lag(time) OVER w > {_PAUSE}, false) AS begins
            FROM {rows} AND gkey IN (SELECT gkey FROM {rows} GROUP BY gkey HAVING max(time) - min(time) > {_PAUSE})
            WINDOW w AS (PARTITION BY gkey ORDER BY time, row)
        ), visited AS (
            SELECT *, count(*) FILTER (begins) OVER (PARTITION BY gkey ORDER BY time, row) AS visit FROM paused
        ), shows AS (
            SELECT *, label = 0 OR visit = min(visit) OVER (PARTITION BY gkey, what) AS shows FROM visited)
        SELECT row, gkey, what, place, time, shows, max(visit) FILTER (shows) OVER (PARTITION BY gkey ORDER BY visit) AS
            visit FROM shows"""
    )
    again = [f"SELECT gkey FROM visit WHERE shows GROUP BY gkey HAVING max(time) - min(time) > {_DAY}"]
    for shown in ("what", "place"):
        again.append(
            f"SELECT gkey FROM visit WHERE shows AND {shown} IS NOT NULL GROUP BY gkey, {shown} "
            "HAVING min(visit) < max(visit)"
        )
    work.run(
        "UPDATE shown SET gkey = shown.gkey || chr(31) || visit.visit FROM visit WHERE shown.row = visit.row AND "
        f"shown.part = {number} AND visit.visit > 0 AND visit.gkey IN ({' UNION '.join(again)})"
    )
    work.run("DROP TABLE visit")


def count_merged(work: Work, part: str, number: int) -> None:
    """Count the rows with whole lists that `merge_again` put together."""
    rows = work.number(f"SELECT count(DISTINCT row) FROM shown WHERE part = {number}")
    lists = work.number(f"SELECT count(*) FROM head WHERE part = {number}")
    work.report.drop(part, "list again with other labels, the best kept", rows - lists)


def name_again(work: Work, part: str, number: int) -> None:
    """Number the lists of one id in `head` by their time; counted."""
    work.run(
        f"""CREATE TABLE renamed AS SELECT number, list_text || '/' || n AS list_text FROM (
            SELECT number, list_text, row_number() OVER (PARTITION BY list_text ORDER BY time, number) AS n FROM head
            WHERE part = {number} AND list_text IS NOT NULL) WHERE n > 1"""
    )
    names = [name for (name,) in work.fetch("SELECT list_text FROM renamed ORDER BY number")]
    work.report.repair(part, "list id used again, a list of its own", len(names), names)
    work.run("UPDATE head SET list_text = renamed.list_text FROM renamed WHERE head.number = renamed.number")
    work.run("DROP TABLE renamed")

"""Events that a later one takes back: removed from the cart, returned, refunded.

take_back(work, mapping)     # from `checked`: the tables `taken` (part, row, undone: when) and `log`
"""

from __future__ import annotations

from reshelf.data.importing.database import Work
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.mapping_file import events_name


def take_back(work: Work, mapping: Mapping) -> None:
    """The tables `taken` (part, row, undone: when), of events that were taken back, and `log`; what took back is gone.

    Additions and removals of one shopper, item and kind are brackets: a removal closes the last open addition. The
    level of brackets never falls below zero, for logs begin in the middle.
    """
    work.run(
        """CREATE TABLE taken AS
        WITH bracket AS (
            SELECT user, item, coalesce(undoes, kind) AS kind, key, part, row, undoes IS NULL AS opens FROM checked
            WHERE (user, item) IN (SELECT (user, item) FROM checked WHERE undoes IS NOT NULL)
        ), summed AS (
            SELECT *, sum(CASE WHEN opens THEN 1 ELSE -1 END) OVER w AS total FROM bracket
            WINDOW w AS (PARTITION BY user, item, kind ORDER BY key, part, row)
        ), levelled AS (
            SELECT *, total - least(0, min(total) OVER w) AS level,
                total < least(0, coalesce(min(total) OVER (PARTITION BY user, item, kind ORDER BY key, part, row
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)) AS alone FROM summed
            WINDOW w AS (PARTITION BY user, item, kind ORDER BY key, part, row)
        ), numbered AS (
            SELECT *, row_number() OVER (PARTITION BY user, item, kind ORDER BY key, part, row) AS n FROM levelled
        )
        SELECT o.part, o.row, c.key AS undone FROM (SELECT * FROM numbered WHERE NOT opens AND NOT alone) c
        ASOF JOIN (SELECT * FROM numbered WHERE opens) o
            ON o.user = c.user AND o.item = c.item AND o.kind = c.kind AND o.level = c.level + 1 AND c.n >= o.n"""
    )
    work.report.taken_back = work.number("SELECT count(*) FROM taken")
    for part, n in work.fetch("SELECT part, count(*) FROM checked WHERE undoes IS NOT NULL GROUP BY part"):
        work.report.drop(events_name(mapping, part), "takes another event back", n)
    work.run("UPDATE checked SET grade = 0 FROM taken t WHERE checked.part = t.part AND checked.row = t.row")
    work.run("DELETE FROM checked WHERE undoes IS NOT NULL")
    work.run("CREATE TABLE log AS SELECT user, item, key, grade, query, list, whole_day FROM checked")

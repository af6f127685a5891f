"""Events that a later one takes back: removed from the cart, returned, refunded.

take_back(work, mapping)     # from `checked`: the tables `taken` (part, row, undone: when) and `log`
"""

from __future__ import annotations

from reshelf.data.importing.database import Work
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.mapping_file import events_name

_NOTHING = 1e-6
"""Of a quantity, as the difference of two sums."""


def take_back(work: Work, mapping: Mapping) -> None:
    """The tables `taken` (part, row, undone: when), of events that were taken back, and `log`; what took back is gone.

    Additions and removals of one shopper, item and kind are a pile, by their quantities where these are mapped: what
    was added last is taken off first, and an addition is undone once nothing of it is left. The pile never falls below
    zero, for logs begin in the middle.
    """
    quantity = "coalesce(abs(quantity), 1)" if any(spec.quantity for spec in mapping.events) else "1"
    work.run(
        f"""CREATE TABLE taken AS
        WITH change AS (
            SELECT user, item, coalesce(undoes, kind) AS kind, key, part, row, undoes IS NULL AS adds,
                {quantity} AS quantity FROM checked
            WHERE (user, item) IN (SELECT (user, item) FROM checked WHERE undoes IS NOT NULL)
        ), summed AS (
            SELECT *, sum(CASE WHEN adds THEN quantity ELSE -quantity END) OVER w AS total, row_number() OVER w AS n
            FROM change WINDOW w AS (PARTITION BY user, item, kind ORDER BY key, part, row)
        ), piled AS (
            SELECT *, total - least(0, min(total) OVER w) AS pile FROM summed
            WINDOW w AS (PARTITION BY user, item, kind ORDER BY n)
        )
        SELECT added.part, added.row, min_by(removed.key, removed.n) AS undone
        FROM piled added JOIN piled removed USING (user, item, kind)
        WHERE added.adds AND NOT removed.adds AND removed.n > added.n
            AND removed.pile <= added.pile - added.quantity + {_NOTHING} GROUP BY ALL"""
    )
    work.report.taken_back = work.number("SELECT count(*) FROM taken")
    for part, n in work.fetch("SELECT part, count(*) FROM checked WHERE undoes IS NOT NULL GROUP BY part"):
        work.report.drop(events_name(mapping, part), "takes another event back", n)
    work.run("UPDATE checked SET grade = 0 FROM taken t WHERE checked.part = t.part AND checked.row = t.row")
    work.run("DELETE FROM checked WHERE undoes IS NOT NULL")
    work.run("CREATE TABLE log AS SELECT user, item, key, grade, query, list, whole_day FROM checked")

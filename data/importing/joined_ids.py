"""Texts of several products, where one id is expected or another separator: of none of them anything would count.

warn_of_joined(source, "sku", "event_row", "part = 0", "take it apart")     # a warning, of which `7|8` is the example
"""

from __future__ import annotations

from reshelf.data.importing.mapping import Columns
from reshelf.data.importing.tables import Source, names_of

_BETWEEN = r"[|,;\s\[\]{}''\"]+"
"""What stands between ids and around them, as in `7|8`, `7, 8`, `['7' '8']`, `{7,8}`."""

UNNEST = "take them apart with sql, as by unnest(string_split(…, '|'))"


def warn_of_joined(source: Source, mapped: Columns, table: str, where: str, cure: str) -> None:
    """Say of how many rows an id that the catalogue does not know is made of several that it knows.

    Args:
        mapped: what the ids were read from.
        table: has the ids that are not known as `unknown`; `known` has those that are.
    """
    parts = f"list_filter(regexp_split_to_array(unknown, '{_BETWEEN}'), lambda e: e <> '')"
    ((rows, example),) = source.work.fetch(
        f"WITH joined AS (SELECT unknown, count(*) AS n FROM {table} WHERE {where} AND "
        rf"regexp_matches(unknown, '[|,;\s]') GROUP BY unknown), part AS (SELECT unknown, n, unnest({parts}) AS one "
        "FROM joined), whole AS (SELECT unknown, any_value(n) AS n FROM part LEFT JOIN known ON known.id = one "
        "GROUP BY unknown HAVING count(*) > 1 AND bool_and(known.id IS NOT NULL)) "
        "SELECT sum(n), arg_max(unknown, n) FROM whole"
    )
    if rows:
        what = f"{rows:,} texts of {names_of(mapped)[0]!r} are several products ({example}), of which none counts"
        source.work.report.warn(f"{source.part}: {what}; {cure}")

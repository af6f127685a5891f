"""Served lists and what came of them as OpenSearch's User Behavior Insights 1.3: what search teams' dashboards read.

    reshelf data ubi --root logs/shop --out logs/ubi

It reads what the mapping `served_lists` reads: the log in `served/`, and your page's `events*.csv`, whose events of
kind `search` say whose and what for a list was. `reshelf data import --mapping ubi` makes the same lists of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from reshelf.data.atomic import atomic
from reshelf.data.importing.casts import Column, id_of, text_of
from reshelf.data.importing.database import named, quoted, utc_database
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.times import time_of
from reshelf.errors import InputError, first_line

QUERIES, EVENTS = "ubi_queries.ndjson", "ubi_events.ndjson"
_COLUMNS = ("list_id", "user_id", "item_id", "kind", "query", "time")
_ISO = "'%Y-%m-%dT%H:%M:%S.%fZ'"


@dataclass
class UbiConfig:
    """Write served lists and events as User Behavior Insights 1.3."""

    root: Path
    """Folder with `served/`, the log of `reshelf serve --served_lists`, and your page's `events*.csv`."""
    out: Path
    """Folder for ubi_queries.ndjson and ubi_events.ndjson."""
    application: str = "reshelf"
    """What UBI calls the source of searches."""


def export_ubi(config: UbiConfig) -> None:
    """Write both files, one JSON document a line, and print how many there are.

    Raises:
        InputError: the log or the events cannot be read, or `out` cannot be written.
    """
    base = utc_database()
    log, pages = config.root / "served" / "served-*.parquet", config.root / "events*.csv"
    for pattern, what in ((log, "`reshelf serve --served_lists` writes them"), (pages, "your page's events go there")):
        if not any(config.root.glob(str(pattern.relative_to(config.root)))):
            raise InputError(f"{pattern}: there is no such file; {what}")
    application = f"{quoted(config.application)} AS application"
    try:
        base.execute(f"CREATE VIEW served AS SELECT * FROM read_parquet({quoted(str(log))}, hive_partitioning = false)")
        options = "all_varchar = true, header = true, union_by_name = true, hive_partitioning = false"
        read = f"read_csv({quoted(str(pages))}, {options})"
        there = {name for name, *_ in base.execute(f"DESCRIBE SELECT * FROM {read}").fetchall()}
        if missing := [name for name in _COLUMNS if name not in there]:
            raise InputError(f"{pages}: column {missing[0]!r} is missing; events have {', '.join(_COLUMNS)}")
        columns = {name: Column(named(name), "VARCHAR") for name in _COLUMNS}
        fields = {name: id_of(columns[name]) for name in _COLUMNS[:3]}
        fields |= {"kind": f"lower({text_of(columns['kind'])})", "query": text_of(columns["query"])}
        fields["time"] = f"make_timestamp({time_of(columns['time'], Table())})"
        base.execute(f"CREATE VIEW events AS SELECT {_listed(fields)} FROM {read}")
        written = {
            QUERIES: f"""
                SELECT {application}, list_id AS query_id, list_id AS query_response_id, user_id AS client_id,
                coalesce(searches.query, '') AS user_query, strftime(served.time::TIMESTAMP, {_ISO}) AS timestamp,
                candidates AS query_response_hit_ids,
                {{model: model, experiment: experiment, arm: arm, fallback: fallback}} AS query_attributes
                FROM served JOIN (SELECT DISTINCT ON (list_id) * FROM events WHERE kind = 'search') searches
                USING (list_id) ORDER BY served.time""",
            EVENTS: f"""
                SELECT {application}, CASE kind WHEN 'cart' THEN 'add_to_cart' ELSE kind END AS action_name,
                list_id AS query_id, user_id AS client_id, strftime(events.time, {_ISO}) AS timestamp,
                {{object: {{object_id: item_id}}, position: CASE WHEN list_position(candidates, item_id) > 0 THEN
                {{ordinal: positions[list_position(candidates, item_id)]}} END}} AS event_attributes
                FROM events LEFT JOIN served USING (list_id) WHERE kind <> 'search' AND events.time IS NOT NULL
                ORDER BY events.time""",
        }
        for name, query in written.items():
            with atomic(config.out / name) as partial:
                base.execute(f"COPY ({query}) TO {quoted(str(partial))} (FORMAT json)")
        counts = [base.execute(f"SELECT count(*) FROM {read}").fetchall()[0][0] for read in ("served", "events")]
    except duckdb.Error as error:
        raise InputError(f"{config.root}: {first_line(error)}") from error
    lines = {name: sum(1 for _ in (config.out / name).open("rb")) for name in written}
    print(
        f"{config.out / QUERIES}: {lines[QUERIES]:,} of {counts[0]:,} served lists; no event said what the others were"
    )
    print(f"{config.out / EVENTS}: {lines[EVENTS]:,} of {counts[1]:,} events; the others are searches or have no time")


def _listed(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in fields.items())

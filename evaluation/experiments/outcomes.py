"""What came of an experiment's lists: the served-list log joined with events.

    lists = read_outcomes(Path("runs/served"), Path("events.csv"), kind="click")
    lists.arms, lists.successes.sum()

Events are a CSV or Parquet file with the columns `item_id` and `kind`, and `list_id` (the reply's `id`) or `user_id`
and `time`. An event without a list is that of the latest list of its shopper in which the product stood, within a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reshelf.data.importing.casts import Column, id_of, text_of
from reshelf.data.importing.database import named, quoted, utc_database
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.times import time_of
from reshelf.data.schema import GRADES
from reshelf.data.served_lists import pseudonym, read_key
from reshelf.errors import InputError, first_line

WINDOW_HOURS = 24
"""After a list, in which an event that names none may be its outcome."""
_COLUMNS = ("list_id", "user_id", "item_id", "kind", "time")
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExperimentLists:
    """Lists of one experiment."""

    name: str
    arms: list[str]
    """The control, then the others by name. Of an interleaved experiment the two whose picks lists are made of."""
    interleaved: bool
    shares: dict[str, float]
    """Of shoppers, meant for each arm; empty where interleaved."""
    shopper: Int64
    """[lists], from 0; a list without a shopper has one of its own."""
    arm: Int64
    """[lists], index of `arms`; -1 where interleaved."""
    successes: Int64
    """[lists] products with the outcome; [lists, 2] by whose picks they are, where interleaved."""
    fallbacks: npt.NDArray[np.bool_]
    """[lists], whether it was in first-stage order."""
    not_interleaved: int
    """Lists of an interleaved experiment that were left out: the second order did not come in time."""
    events: int
    """With the outcome, in the file."""
    matched: int
    """Of these, those of a list of the experiment."""
    language: str = "en"
    """Of the model that most lists were ranked by."""


def read_outcomes(served: Path, events: Path, kind: str, experiment: str = "") -> ExperimentLists:
    """Join the two.

    Args:
        served: folder of the log.
        events: CSV or Parquet file.
        kind: click, cart or purchase; a purchase is a click and a cart too.
        experiment: its name; may be left out where the log has one.

    Raises:
        InputError: a file or column is missing, there is no such experiment, or no event is of its lists.
    """
    if not any(served.glob("served-*.parquet")):
        raise InputError(f"{served}: no served lists; `reshelf serve --served_lists` writes them")
    base = utc_database()
    # A folder above, `tenant=de`, would stand in place of the log's own column.
    log = f"read_parquet({quoted(str(served / 'served-*.parquet'))}, hive_partitioning = false)"
    try:
        base.execute(f"CREATE VIEW log AS SELECT * FROM {log}")
        name = _chosen(base, served, experiment)
        base.execute(f"""
            CREATE TABLE lists AS SELECT row_number() OVER (ORDER BY time, list_id) - 1 AS n, *,
            teams IS NOT NULL AS mixed FROM log WHERE experiment = {quoted(name)}""")
        base.execute("""
            CREATE TABLE shown AS SELECT n, list_id, user, epoch_us(time) AS time, unnest(candidates) AS item,
            unnest(teams) AS team FROM lists""")
    except duckdb.Error as error:
        raise InputError(
            f"{served} cannot be read: {first_line(error)}; give the folder that "
            "`reshelf serve --served_lists` wrote, without files of another kind or cut off"
        ) from error
    total = _read_events(base, served, events, kind)
    if not total:
        raise InputError(f"{events}: no event of the outcome {kind}; `kind` must be click, cart or purchase")
    matched = _match(base)
    if not matched:
        raise InputError(
            f"{events}: none of {total} events with the outcome is of a list of {name}; `list_id` must be the reply's "
            "`id`, or `user_id` the shopper's as sent to the server"
        )
    return _counted(base, name, total, matched)


def _match(base: duckdb.DuckDBPyConnection) -> int:
    """Make the table `hits`, of products with the outcome in the lists; returns how many there are."""
    base.execute(f"""
        CREATE TABLE hits AS SELECT n, item, team FROM found JOIN shown USING (list_id, item)
        UNION SELECT n, item, team FROM (
            SELECT nameless.time AS done, shown.* FROM (SELECT * FROM found WHERE list_id IS NULL) AS nameless
            ASOF JOIN shown ON nameless.user = shown.user AND nameless.item = shown.item AND nameless.time >= shown.time
        ) WHERE done - time < {WINDOW_HOURS} * 3600000000""")
    return _number(base, "SELECT count(*) FROM hits")


def _counted(base: duckdb.DuckDBPyConnection, name: str, events: int, matched: int) -> ExperimentLists:
    """The experiment's lists, each with what came of it."""
    interleaved = _number(base, "SELECT count(*) FROM lists WHERE arm IS NULL") > 0
    arms = "SELECT unnest(teams) AS arm FROM lists" if interleaved else "SELECT arm FROM lists"
    rows = base.execute(f"SELECT DISTINCT arm FROM ({arms}) WHERE arm IS NOT NULL ORDER BY arm").fetchall()
    control = base.execute("SELECT any_value(control) FROM lists").fetchall()[0][0]
    names = sorted((str(arm) for (arm,) in rows), key=lambda arm: (arm != control, arm))
    by_arm = base.execute("SELECT arm, any_value(arm_share) FROM lists GROUP BY arm").fetchall()
    index = " ".join(f"WHEN {quoted(arm)} THEN {n}" for n, arm in enumerate(names)) or "WHEN '' THEN 0"
    sides = [f"team = {quoted(arm)}" for arm in names] if interleaved else ["true"]
    counts = [f"count(item) FILTER (WHERE {side}) AS c{n}" for n, side in enumerate(sides)]
    found = base.execute(f"""
        SELECT dense_rank() OVER (ORDER BY coalesce(user, '#' || n)) - 1 AS shopper,
        CASE arm {index} ELSE -1 END AS arm, fallback IS NOT NULL AS fallback, {", ".join(counts)}
        FROM lists LEFT JOIN hits USING (n) {"WHERE mixed" if interleaved else ""}
        GROUP BY n, user, arm, fallback ORDER BY n""").fetchnumpy()
    successes = np.column_stack([found[f"c{n}"] for n in range(len(sides))]).astype(np.int64)
    return ExperimentLists(
        name=name,
        arms=names,
        interleaved=interleaved,
        shares={} if interleaved else dict(by_arm),
        shopper=found["shopper"].astype(np.int64),
        arm=found["arm"].astype(np.int64),
        successes=successes if interleaved else successes[:, 0],
        fallbacks=found["fallback"].astype(bool),
        not_interleaved=_number(base, "SELECT count(*) FROM lists WHERE NOT mixed") if interleaved else 0,
        events=events,
        matched=matched,
        language=base.execute("SELECT coalesce(mode(nullif(language, '')), 'en') FROM lists").fetchall()[0][0],
    )


def _chosen(base: duckdb.DuckDBPyConnection, served: Path, wanted: str) -> str:
    found = base.execute("SELECT DISTINCT experiment FROM log WHERE experiment IS NOT NULL ORDER BY 1").fetchall()
    names = [name for (name,) in found]
    if not names:
        raise InputError(f"{served}: no list of an experiment; see `experiment` of the server or the tenant")
    if wanted and wanted not in names:
        raise InputError(f"{served}: no experiment {wanted!r}; there are {', '.join(names)}")
    if not wanted and len(names) > 1:
        raise InputError(f"{served}: {len(names)} experiments; choose one with --experiment: {', '.join(names)}")
    return wanted or str(names[0])


def _read_events(base: duckdb.DuckDBPyConnection, served: Path, path: Path, kind: str) -> int:
    """Make the table `found`, of events with the outcome; returns how many there are."""
    if not path.is_file():
        raise InputError(f"cannot read {path}: there is no such file")
    is_text = path.suffix != ".parquet"
    reader = "read_csv({}, all_varchar = true, header = true, {})" if is_text else "read_parquet({}, {})"
    reader = reader.format(quoted(str(path)), "hive_partitioning = false")
    try:
        there = {name: kind for name, kind, *_ in base.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()}
    except duckdb.Error as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error
    for name in ("item_id", "kind"):
        if name not in there:
            raise InputError(f"{path}: column {name!r} is missing; events have {', '.join(_COLUMNS)}")
    if "list_id" not in there and not {"user_id", "time"} <= there.keys():
        raise InputError(f"{path}: give events a `list_id` (the reply's `id`), or `user_id` and `time`")
    columns = {name: Column(named(name), there[name]) for name in _COLUMNS if name in there}
    grade = next(grade for grade, name in GRADES.items() if name == kind)
    wanted = ", ".join(quoted(name) for one, name in GRADES.items() if one >= grade)
    fields = {name: id_of(columns[name]) if name in columns else "CAST(NULL AS VARCHAR)" for name in _COLUMNS[:3]}
    fields["time"] = time_of(columns["time"], Table()) if "time" in columns else "CAST(NULL AS BIGINT)"
    selected = ", ".join(f"{sql} AS {name}" for name, sql in fields.items())
    is_wanted = f"lower({text_of(columns['kind'])}) IN ({wanted})"
    try:
        base.execute(f"CREATE TABLE events AS SELECT {selected} FROM {reader} WHERE {is_wanted}")
    except duckdb.Error as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error
    tenants = [one for (one,) in base.execute("SELECT DISTINCT tenant FROM lists").fetchall()]
    shoppers = [
        one for (one,) in base.execute("SELECT DISTINCT user_id FROM events WHERE list_id IS NULL").fetchall() if one
    ]
    key = read_key(served) if shoppers else b""
    pairs = [(one, pseudonym(key, tenant, one)) for one in shoppers for tenant in tenants]
    schema = pa.schema([("user_id", pa.string()), ("user", pa.string())])
    people = pa.Table.from_pylist([{"user_id": one, "user": found} for one, found in pairs], schema)
    base.register("people", people)
    base.execute("""
        CREATE TABLE found AS SELECT list_id, people.user, item_id AS item, time
        FROM events LEFT JOIN people ON events.user_id = people.user_id""")
    return _number(base, "SELECT count(*) FROM events")


def _number(base: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(base.execute(query).fetchall()[0][0])

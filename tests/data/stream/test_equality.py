"""The streamed import against the one in memory, the slow and obvious one: the same rows, counts and sentences."""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from impressions import Outcome, outcome
from shop_tables import write_table

from reshelf.data.importing.mapping import EventsTable, ItemsTable, Mapping, PairsTable, SignalsConfig, SplitConfig

HOUR = 3600
START = 1_700_000_000
ITEMS = [{"id": f"p{n}", "title": f"thing {n % 3} {n}"} for n in range(6)]
KINDS = ["view", "view", "click", "click", "cart", "purchase", "purchase", "rating", "search", "wobble", None]
USERS = st.sampled_from(["u0", "u0", "u1", " u1 ", "u2", "ünï ☃", "anyone"])
QUERIES = st.sampled_from([None, "", "  ", "mug", "mug", "ß 🦊", 'a, "b"\nc'])
TIMES = st.integers(0, 40).map(lambda half_hours: START + half_hours * HOUR // 2)


def _row(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(columns)


EVENTS = st.lists(
    _row(
        user=USERS,
        item=st.sampled_from(["p0", "p0", "p1", "p2", "p3", " p4", "gone"]),
        time=st.one_of(TIMES, TIMES, TIMES, st.sampled_from([None, -5, START * 5])),
        kind=st.sampled_from(KINDS),
        value=st.sampled_from([None, 1.0, 3.5, 5.0, math.nan, math.inf]),
        query=QUERIES,
        request=st.sampled_from([None, "a", "b", "c", "pairs.0-0"]),
    ),
    min_size=5,
    max_size=50,
)
SHOWN = st.lists(
    _row(
        request=st.sampled_from(["a", "a", "b", "c", "d", " d"]),
        user=USERS,
        time=TIMES,
        query=QUERIES,
        item=st.sampled_from(["p0", "p1", "p2", "p3", "p4", "p5"]),
        rank=st.sampled_from([1, 2, 2, 3, 7]),
        score=st.sampled_from([-0.0, 0.0, 1.5, -2.0]),
        part=st.sampled_from(["train", "train", "train", "train", "test", "dev"]),
    ),
    min_size=1,
    max_size=40,
)
OPTIONS = _row(
    list_id=st.booleans(),
    event_list_id=st.booleans(),
    order=st.sampled_from(["position", "score", None]),
    user_id=st.sampled_from([True, True, True, False]),
    split=st.sampled_from(["time", "time", "user", "query", "column"]),
    own_split=st.sampled_from([False, False, True]),
    guard=st.booleans(),
    valid_from_train=st.sampled_from([0.0, 0.5]),
    max_per_day=st.sampled_from([3, 6, 1000]),
    outcome_hours=st.sampled_from([0.5, 3.0, 24.0]),
    max_history=st.sampled_from([0, 1, 3, 200]),
    where=st.booleans(),
    twice=st.booleans(),
    limit=st.sampled_from([None, None, 0, 2]),
    signals=st.sampled_from([[], [], ["popularity", "recent"], ["cobought", "match", "query_match"]]),
    first_stage=st.booleans(),
)


def _mapping(options: dict[str, Any], ending: str) -> Mapping:
    pairs = PairsTable(
        file=f"shown.{ending}",
        list_id="request" if options["list_id"] else None,
        user_id="user" if options["user_id"] else None,
        time="time",
        query="query",
        item_id="item",
        position="rank" if options["order"] == "position" else None,
        score="score" if options["order"] == "score" else None,
        split="part" if options["own_split"] else None,
        outcome_hours=options["outcome_hours"],
        where={"part": ["train", "test"]} if options["where"] else {},
    )
    other = PairsTable(file=f"more.{ending}", user_id="user", time="time", item_id="item", position="rank")
    other.list_id = "request" if options["list_id"] else None
    return Mapping(
        items=ItemsTable(file=f"items.{ending}", item_id="id", title="title"),
        events=EventsTable(
            file=f"events.{ending}", user_id="user", item_id="item", time="time", kind_column="kind", value="value",
            query="query", list_id="request" if options["event_list_id"] else None, earliest="2000-01-01",
            max_per_day=options["max_per_day"],
        ),
        pairs=[pairs, other] if options["twice"] else [pairs],
        split=SplitConfig(
            by=options["split"], valid=0.2, test=0.2, guard_users=options["guard"],
            valid_from_train=options["valid_from_train"], names={"dev": "valid"},
        ),
        signals=SignalsConfig(
            names=options["signals"], history=2,
            first_stage={"match": 1.0, "popularity": 0.5} if options["signals"] and options["first_stage"] else {},
        ),
        max_history=options["max_history"],
    )  # fmt: skip


def _assert_equal(streamed: Outcome, reference: Outcome) -> None:
    assert streamed.error == reference.error, (streamed.error, reference.error)
    assert streamed.report == reference.report
    assert list(streamed.tables) == list(reference.tables)
    for name, rows in reference.tables.items():
        for mine, wanted in zip(streamed.tables[name], rows, strict=True):
            for feature in wanted.get("features", []):
                feature["values"] = pytest.approx(feature["values"], abs=1e-9)
            assert mine == wanted


@given(EVENTS, SHOWN, SHOWN, OPTIONS, st.sampled_from(["parquet", "jsonl", "csv"]), st.sampled_from([1, 7, 1000]))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
def test_any_log_gives_the_same_both_ways(
    events: list[dict[str, Any]],
    shown: list[dict[str, Any]],
    more: list[dict[str, Any]],
    options: dict[str, Any],
    ending: str,
    rows: int,
) -> None:
    more = [{**row, "request": row["request"].strip() + "2"} for row in more]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for table, content in (("items", ITEMS), ("events", events), ("shown", shown), ("more", more)):
            write_table(root / f"{table}.{ending}", content)
        mapping = _mapping(options, ending)
        streamed, reference = (
            outcome(way, mapping, root, limit=options["limit"], rows=rows) for way in ("streamed", "in memory")
        )
    event(re.sub(r"[\d'].*", "", reference.error.split(": ", 1)[-1])[:40] if reference.error else "lists")
    _assert_equal(streamed, reference)

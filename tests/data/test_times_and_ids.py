"""Times and ids as tables write them: of every type and spelling, read exactly or refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_cases import EVENTS, ONE, history, labels, shop

from reshelf.data.schema import Event
from reshelf.errors import InputError


@pytest.mark.parametrize(
    "kind", [pa.decimal128(18, 6), pa.decimal128(20, 0), pa.float64(), pa.int64(), pa.timestamp("ns")]
)
def test_native_times_of_any_type_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    unit = 10**9 if pa.types.is_timestamp(kind) else Decimal(1) if pa.types.is_decimal(kind) else 1
    moments = pa.array([moment * unit for moment in (1709283600, 1709287260, 1709942400)])
    events = {"u": ["a", "a", "z"], "i": ["p5", "p0", "p9"], "t": moments.cast(kind), "k": ["view", "click", "view"]}
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    found = shop(tmp_path, "a,p6,09:00:00,view", ONE, {"events.file": "events.parquet"})
    assert labels(found) == {"L1": {"p0": 1, "p1": 0}}
    assert history(found, "L1") == ["p5"]


@pytest.mark.parametrize(
    ("time", "clicked"),
    [
        ("11:01:00 Europe/Berlin", 1), ("10:01:00 Europe/Berlin", 0), ("05:01:00 EST", 1), ("11:01:00 GMT+1", 1),
        ("10:01:00 AM", 1), ("10:01:00 PM", 0), ("10:01 am", 1), ("10:01:00 UTC", 1),
    ],
)  # fmt: skip
def test_a_word_behind_the_time_is_read(tmp_path: Path, time: str, clicked: int) -> None:
    """DuckDB's cast passes over it. The list's window is an hour."""
    rows = f"u,i,t,k\na,p0,2024-03-01 {time},click\nz,p9,2024-03-09 00:00:00,view\n"
    found = shop(tmp_path, "a,p5,09:00:00,view", ONE, {"pairs.window_hours": 1}, {"events.csv": rows})
    assert labels(found) == {"L1": {"p0": clicked, "p1": 0}}
    with pytest.raises(InputError, match="is not a time"):
        shop(tmp_path, "a,p5,09:00:00,view", ONE, {}, {"events.csv": rows.replace(time, "10:01:00 noon")})


def test_times_with_and_without_an_offset_in_one_column_are_a_warning(tmp_path: Path) -> None:
    events = "a,p5,09:00:00,view a,p6,2024-03-01T09:30:00+02:00,view"
    found = shop(tmp_path, events, ONE)
    assert any("2 times of events have no offset and were read as UTC, 1 say" in text for text in found[1]["warnings"])
    assert history(found, "L1") == ["p6", "p5"]
    found = shop(tmp_path, events, ONE, {"events.timezone": "Europe/Berlin"})
    assert not any("offset" in text for text in found[1]["warnings"] if "events" in text and "pairs" not in text)


def test_local_times_beside_others_are_a_warning_until_their_zone_is_told(tmp_path: Path) -> None:
    shown = "L1,a,2024-03-01T10:00:00Z,mug,p0,1"
    found = shop(tmp_path, "a,p0,11:00:30,click", shown, {"pairs.window_hours": 0.5})
    assert labels(found) == {"L1": {"p0": 0}}
    assert any("set timezone in events" in warning for warning in found[1]["warnings"])
    zone = {"pairs.window_hours": 0.5, "events.timezone": "Europe/Berlin"}
    found = shop(tmp_path, "a,p0,11:00:30,click", shown, zone)
    assert labels(found) == {"L1": {"p0": 1}}
    assert not any("timezone" in warning for warning in found[1]["warnings"])


@pytest.mark.parametrize("day", ["%Y-%m-%d", "%Y-%m-%d 00:00:00", "%Y%m%d", "%s", "%d.%m.%Y", "date", "timestamp"])
def test_what_happened_on_the_day_of_a_list_is_no_history_of_it_where_only_the_day_is_known(
    tmp_path: Path, day: str
) -> None:
    """p6 on the list's own day may have come after it, p5 came the day before; p0 is shown, and clicked that day."""
    rows = [("a", "p5", 29, "view"), ("a", "p6", 30, "view"), ("a", "p0", 30, "click"), ("z", "p9", 39, "view")]
    days = [datetime(2024, 1, 31, tzinfo=UTC) + timedelta(days=n) for _, _, n, _ in rows]
    texts = [str(int(when.timestamp())) if day == "%s" else when.strftime(day) for when in days]
    table = "u,i,t,k\n" + "".join(f"{u},{i},{when},{k}\n" for (u, i, _, k), when in zip(rows, texts, strict=True))
    change = {"events.time_format": day} if day.startswith("%d") else {}
    if not day.startswith("%"):
        kind = pa.date32() if day == "date" else pa.timestamp("ns")
        columns = {name: [row[n] for row in rows] for n, name in ((0, "u"), (1, "i"), (3, "k"))}
        naive = [when.replace(tzinfo=None) for when in days]
        pq.write_table(pa.table(columns | {"t": pa.array(naive, kind)}), tmp_path / "events.parquet")
        change = {"events.file": "events.parquet"}
    found = shop(tmp_path, "a,p5,09:00:00,view", ONE, change, {"events.csv": table})
    assert history(found, "L1") == ["p5"]
    assert labels(found) == {"L1": {"p0": 1, "p1": 0}}
    assert any("2 of 4 events of which only the day is known" in warning for warning in found[1]["warnings"])
    assert not any("time zone; set" in warning for warning in found[1]["warnings"])


def test_days_of_orders_beside_moments_of_clicks(tmp_path: Path) -> None:
    """Only the orders count from the end of their day, in their own zone; a list of the next midnight comes after."""
    orders = {"file": "orders.csv", "user_id": "who", "item_id": "sku", "time": "at", "kind": "purchase"}
    bought = "who,sku,at\na,p7,2024-02-29\na,p1,2024-03-01\nz,p9,2024-03-05\n"
    shown = ONE + " L2,a,2024-03-02T00:00:02,cup,p1,1 L2,a,2024-03-02T00:00:02,cup,p3,2"
    for zone, before in (("UTC", ["p6", "p0", "p1"]), ("America/New_York", ["p6", "p0"])):
        events = [EVENTS, orders | {"timezone": zone}]
        found = shop(
            tmp_path, "a,p6,09:30:00,view a,p0,10:01:00,click", shown, {"events": events}, {"orders.csv": bought}
        )
        assert history(found, "L1") == ["p7", "p6"]
        assert history(found, "L2")[-len(before) :] == before
        assert labels(found)["L1"] == {"p0": 1, "p1": 3 if zone == "UTC" else 0}
        assert labels(found)["L2"] == {"p1": 0 if zone == "UTC" else 3, "p3": 0}
    found = shop(tmp_path, "a,p0,10:01:00,click", ONE)
    assert not any("only the day" in warning for warning in found[1]["warnings"])


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pa.array([Decimal("12345678901234567890"), Decimal(7)], pa.decimal128(38, 9)), "12345678901234567890"),
        (pa.array([16777216.0, 7.0], pa.float32()), "16777216"),
        (pa.array([8.0, 7.0, float("nan")]), "8"),
        (pa.array([16777218.0, 7.0], pa.float32()), "1.67772180e+07 is a floating-point number above 2^24"),
        (pa.array([2.0**60, 7.0], pa.float64()), "1.152921504606847e+18 is a floating-point number above 2^53"),
        (pa.array([{"id": "p0"}, {"id": "p9"}]), "column 'i' holds STRUCT values where one id is expected"),
    ],
)
def test_native_ids_are_exact_or_refused(tmp_path: Path, values: pa.Array, kept: str) -> None:
    rest = {"u": ["a", "z", "z"], "t": ["2024-03-01 10:01:00", "2024-03-09", "2024-03-09"], "k": ["click", "view", ""]}
    table = pa.table({name: column[: len(values)] for name, column in rest.items()} | {"i": values})
    pq.write_table(table, tmp_path / "events.parquet")
    shown, more = f"L1,a,10:00:00,mug,{kept},1", {"products.csv": f'sku,name\n"{kept}",Mug\n7,Pot\n'}
    change = {"events.file": "events.parquet"}
    if kept.isdigit():
        assert labels(shop(tmp_path, "a,p0,09:00:00,view", shown, change, more)) == {"L1": {kept: 1}}
        return
    with pytest.raises(InputError, match=re.escape(kept)):
        shop(tmp_path, "a,p0,09:00:00,view", shown, change, more)


@pytest.mark.parametrize(("text", "kept"), [("7.0", "7"), ("007", "007"), (str(2**63 + 1), str(2**63 + 1))])
def test_ids_are_kept_exactly(tmp_path: Path, text: str, kept: str) -> None:
    found = shop(
        tmp_path, f"a,{text},10:01:00,click", f"L1,a,10:00:00,mug,{text},1",
        more={"products.csv": f"sku,name\n{kept},Mug\np9,Pot\n"},
    )  # fmt: skip
    assert labels(found) == {"L1": {kept: 1}}


def test_a_history_that_a_list_brings_leaves_out_what_may_have_come_after_it(tmp_path: Path) -> None:
    row = {"l": "L1", "u": "a", "t": "2024-03-01 10:00:00", "c": "p0;p1", "h": "p3;p4;p5"}
    row["ht"] = "2024-02-29;2024-03-01;2024-03-01 09:00:00"
    columns = {"list_id": "l", "user_id": "u", "time": "t", "candidates": "c", "history": "h", "history_times": "ht"}
    lists = {"file": "lists.jsonl", "list_separator": ";", **columns}
    change = {"pairs": [], "lists": [lists]}
    found = shop(tmp_path, "a,p0,10:01:00,click", ONE, change, {"lists.jsonl": json.dumps(row)})
    assert history(found, "L1") == ["p3", "p5"]
    repaired = found[1]["tables"]["lists.0"]["repaired"]
    assert repaired == {"history event on the list's own day with no time of day, left out": 1}


def test_half_a_surrogate_pair_is_counted_once_and_an_object_is_no_id(tmp_path: Path) -> None:
    rows = [
        {"u": "a", "i": "p0", "t": "2024-03-01 10:01:00", "k": "click", "q": "mug \ud83d"},
        {"u": "z", "i": "p9", "t": "2024-03-09 00:00:00", "k": "view"},
    ]
    change = {"events.file": "events.jsonl", "events.query": "q"}
    text = "\n".join(map(json.dumps, rows))
    found = shop(tmp_path, "a,p5,09:00:00,view", ONE, change, {"events.jsonl": text})
    assert found[1]["warnings"] == ["1 halves of surrogate pairs in the JSON text are now U+FFFD"]
    text = text.replace('"a"', '{"id": "a"}')
    with pytest.raises(InputError, match=r'field u: {"id":"a"} is no id; map a part of it \(u.part\)'):
        shop(tmp_path, "a,p5,09:00:00,view", ONE, change, {"events.jsonl": text})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("20240301", "2024-03-01T00:00:00+00:00"),
        (20240301, "2024-03-01T00:00:00+00:00"),
        ("202403011030", "2024-03-01T10:30:00+00:00"),
        ("20240301103015", "2024-03-01T10:30:15+00:00"),
        ("1709287815", "2024-03-01T10:10:15+00:00"),
        (1709287815000, "2024-03-01T10:10:15+00:00"),
        (20240399, "1970-08-23T06:19:59+00:00"),
    ],
)
def test_dates_without_separators_are_read_in_records_as_in_imports(written: str | int, read: str) -> None:
    event = Event.model_validate_json(json.dumps({"kind": "view", "item_id": "7", "time": written}))
    assert event.time is not None
    assert event.time.isoformat() == read

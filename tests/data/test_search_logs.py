"""Logs of searches and impressions: every sample's lists, labels and histories, computed by hand."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_samples import Seen, copied, imported, lists_of, past, seen

from reshelf.data.served_lists import SERVED_SCHEMA
from reshelf.data.ubi_export import EVENTS, QUERIES, UbiConfig, export_ubi
from reshelf.errors import InputError

SPLIT = {"split__valid": 0.2, "split__test": 0.2}


def test_opensearch_ubi(tmp_path: Path) -> None:
    data, report = imported("ubi", tmp_path, **SPLIT)
    assert seen(data) == [
        Seen("ann", "03-01 10:00", "mug", "7:0 8:2 9:0", ""),
        Seen("bob", "03-01 11:00", "teapot", "20:3 21:0", ""),  # its time is in ms since 1970
        Seen("ann", "03-02 10:00", "kettle", "21:1 20:0 7:0", "click 8, cart 8"),
        Seen("bob", "03-03 09:00", "tray", "30:0 7:1", "purchase 20"),  # product 404 is not in the catalogue
        # two pages of one query_id, each with its own query_response_id
        Seen("ann", "03-04 10:00", "mug", "7:0 8:0", "click 8, cart 8, click 21"),
        Seen("ann", "03-04 10:01", "mug", "9:1 20:0", "click 8, cart 8, click 21"),
        Seen("bob", "03-06 09:00", "mug", "9:0 8:2 7:0", "purchase 20, click 7"),
    ]
    assert lists_of(data)[3].positions == (1, 3), "the places of the others stay"
    assert report["tables"]["lists.0"]["read"] == 9
    assert report["tables"]["events"]["read"] == 11
    assert sum(report["tables"]["events"]["dropped"].values()) == 3  # an impression, page_exit, a click without client


def test_lists_that_were_served(tmp_path: Path) -> None:
    """The log as the service writes it: in served order, without texts and shoppers."""
    root = copied("served_lists", tmp_path)
    served = {  # item and its first-stage place, in served order
        "l1": [("8", 2), ("7", 1), ("9", 4)], "l2": [("20", 3), ("7", 1)], "l3": [("9", 1), ("8", 2)],
        "l4": [("9", 2), ("7", 1)], "nobody's": [("9", 1), ("7", 2)],
    }  # fmt: skip
    rows = [
        {
            "list_id": name, "time": datetime(2026, 3, n, 10 + (n == 2), tzinfo=UTC), "tenant": "open",
            "candidates": [item for item, _ in shown], "first_stage": [place for _, place in shown],
            "positions": list(range(1, len(shown) + 1)),
        }
        for n, (name, shown) in enumerate(served.items(), 1)
    ]  # fmt: skip
    (root / "served").mkdir()
    (root / "served" / "_key").write_text("00")
    pq.write_table(pa.Table.from_pylist(rows, SERVED_SCHEMA), root / "served" / "served-1.parquet")
    data, _ = imported("served_lists", tmp_path, root, **SPLIT)
    assert seen(data) == [
        Seen("ann", "03-01 10:00", "mug", "7:0 8:2 9:0", ""),
        Seen("bob", "03-02 11:00", "teapot", "7:0 20:3", ""),
        Seen("ann", "03-03 10:00", "glass mug", "9:0 8:0", "click 8, cart 8"),
        Seen("bob", "03-04 10:00", "mug", "7:1 9:0", "purchase 20"),
    ]
    assert [ranking.positions for ranking in lists_of(data)] == [(2, 1, 3), (2, 1), (1, 2), (2, 1)]

    with (root / "events.csv").open("a") as events:
        events.write("2026-03-07T10:00:00Z,eve,view,8,,\nnever,eve,view,8,,\n")
    export_ubi(UbiConfig(root, root, "shop"))
    queries, events_out = ([json.loads(line) for line in (root / name).open()] for name in (QUERIES, EVENTS))
    assert queries[0] == {
        "application": "shop", "query_id": "l1", "query_response_id": "l1", "client_id": "ann", "user_query": "mug",
        "timestamp": "2026-03-01T10:00:00.000000Z", "query_response_hit_ids": ["8", "7", "9"],
        "query_attributes": {"model": None, "experiment": None, "arm": None, "fallback": None},
    }  # fmt: skip
    assert [one["query_id"] for one in queries] == ["l1", "l2", "l3", "l4"], "nobody's is of nobody knows what"
    assert events_out[1] == {
        "application": "shop", "action_name": "add_to_cart", "query_id": "l1", "client_id": "ann",
        "timestamp": "2026-03-01T10:01:00.000000Z",
        "event_attributes": {"object": {"object_id": "8"}, "position": {"ordinal": 1}},
    }  # fmt: skip
    assert events_out[-1]["action_name"] == "view"
    assert events_out[-1]["event_attributes"]["position"] is None, "it was on no list"
    again, _ = imported("ubi", tmp_path / "ubi", root, **SPLIT)
    for ours, theirs in zip(lists_of(data), lists_of(again), strict=True):
        assert (ours.user_id, ours.time, ours.query) == (theirs.user_id, theirs.time, theirs.query)
        assert ours.history == theirs.history
        for one in ("labels", "positions"):
            assert dict(zip(ours.candidates, getattr(ours, one))) == dict(zip(theirs.candidates, getattr(theirs, one)))


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"served-\*\.parquet: there is no such file; `reshelf serve --served_lists`"):
        export_ubi(UbiConfig(tmp_path, tmp_path / "ubi"))
    (tmp_path / "served").mkdir()
    pq.write_table(pa.Table.from_pylist([], SERVED_SCHEMA), tmp_path / "served" / "served-1.parquet")
    with pytest.raises(InputError, match=r"events\*\.csv: there is no such file; your page's events"):
        export_ubi(UbiConfig(tmp_path, tmp_path / "ubi"))
    assert not (tmp_path / "ubi").exists()


def test_ubi_indexes_may_be_packed(tmp_path: Path) -> None:
    root = copied("ubi", tmp_path)
    for name in ("ubi_events", "ubi_queries"):
        plain = root / f"{name}.ndjson"
        (root / f"{name}-1.ndjson.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    data, _ = imported("ubi", tmp_path, root, **SPLIT)
    assert seen(data) == seen(imported("ubi", tmp_path / "plain", **SPLIT)[0])


def test_ga4(tmp_path: Path) -> None:
    data, _ = imported("ga4", tmp_path, **SPLIT)
    assert seen(data) == [
        # the click has its list's microsecond; 9 was put into the cart and taken out again
        Seen("1111.10", "03-01 10:00", "mug", "7:0 8:2 9:0", ""),
        Seen("2222.20", "03-01 11:00", "501", "20:3 21:0", ""),  # a term of digits is in int_value
        Seen("1111.10", "03-02 10:00", "", "21:0 7:1", "click 8, cart 8"),  # a carousel has no query
        # one event with two lists; the purchase that came twice is in the history once
        Seen("2222.20", "03-04 10:00", "", "7:1", "purchase 20"),
        Seen("2222.20", "03-04 10:00", "tea", "20:0 30:0", "purchase 20"),
    ]
    mug, term, carousel, *_ = lists_of(data)
    assert mug.positions == (1, 2, 3)
    assert term.positions == (1, 2), "item_list_index is (not set): the order of the array"
    assert carousel.positions == (1, 3)


def test_segment(tmp_path: Path) -> None:
    data, _ = imported("segment", tmp_path, **SPLIT)
    assert seen(data) == [
        # the query is on the Products Searched call before; 9 was added and removed
        Seen("ann", "03-01 10:00", "mug", "7:0 8:2 9:0", ""),
        Seen("bob", "03-01 11:00", "teapot", "20:3 21:0", ""),
        Seen("ann", "03-02 10:00", "", "21:0 7:1", "click 8, cart 8"),  # a category page; m04 came twice
        # the same list twice, with one list_id: the click is the second one's
        Seen("bob", "03-04 10:00", "mug", "7:0 9:0", "purchase 20, purchase 30"),
        Seen("bob", "03-04 10:05", "mug", "7:0 9:1", "purchase 20, purchase 30"),
    ]
    assert lists_of(data)[2].positions == (1, 3)


def test_a_list_whose_window_is_open_still_takes_its_click(tmp_path: Path) -> None:
    """It is dropped, as its outcome is not known yet; but the click was on it, not on the list of the day before."""
    root = copied("segment", tmp_path)
    with (root / "track.jsonl").open("a", encoding="utf-8") as log:
        for at, name, properties in (
            ("07T09:50", "Product List Viewed", {"products": [{"product_id": "7"}, {"product_id": "8"}]}),
            ("08T09:30", "Product List Viewed", {"products": [{"product_id": "7"}, {"product_id": "9"}]}),
            ("08T09:31", "Product Clicked", {"product_id": "7"}),
        ):
            call = {"type": "track", "event": name, "messageId": at, "anonymousId": "bob", "properties": properties}
            log.write(json.dumps(call | {"timestamp": f"2026-03-{at}:00.000Z"}) + "\n")
    data, report = imported("segment", tmp_path, root, **SPLIT)
    assert seen(data)[-1] == Seen("bob", "03-07 09:50", "", "7:0 8:0", "purchase 20, purchase 30, click 9")
    assert "window for outcomes still open when the log ends" in report["tables"]["lists.0"]["dropped"]


def test_ubi_without_hits(tmp_path: Path) -> None:
    data, report = imported("ubi_impressions", tmp_path, **SPLIT)
    assert seen(data) == [
        Seen("ann", "03-01 10:00", "mug", "7:0 8:1 9:0", ""),  # 9 came into view nine seconds later
        Seen("bob", "03-01 11:00", "teapot", "20:3 21:0", ""),
        Seen("ann", "03-02 10:00", "kettle", "21:0 7:0", "click 8"),
        Seen("bob", "03-03 10:00", "Mug", "9:0 7:2", "purchase 20"),  # one impression came twice
    ]
    assert lists_of(data)[2].positions == (1, 3)
    assert report["tables"]["pairs.0"]["read"] == 15


def test_segment_in_a_warehouse(tmp_path: Path) -> None:
    data, _ = imported("segment_warehouse", tmp_path, **SPLIT)
    assert seen(data) == [
        Seen("ann", "03-01 10:00", "mug", "7:0 8:2 9:0", ""),
        Seen("bob", "03-01 11:00", "teapot", "20:2 21:0", ""),
        Seen("ann", "03-02 10:00", "kettle", "21:0 7:1", "click 8, cart 8"),
        Seen("bob", "03-03 10:00", "mug", "9:0 7:0", "cart 20"),
    ]


def test_metarank(tmp_path: Path) -> None:
    data, report = imported("metarank", tmp_path, **SPLIT)
    assert seen(data) == [
        Seen("ann", "03-01 10:00", "mug", "7:0 8:1 9:0", ""),
        Seen("bob", "03-01 11:00", "teapot", "20:3 21:0", ""),
        Seen("ann", "03-02 10:00", "", "21:0 20:0 7:1", "click 8"),  # the like names no ranking
        Seen("s4", "03-03 09:00", "mug", "9:1 7:0", ""),  # nobody signed in: the session
        Seen("ann", "03-04 09:00", "tea", "20:3 7:0", "click 8, click 7"),
    ]
    assert lists_of(data)[0].scores == (3.0, 2.5, 1.0)
    assert lists_of(data)[1].scores == (2.0, 0.5), "relevancy as a field"
    assert lists_of(data)[2].scores is None, "one item of four has a score"
    assert lists_of(data)[2].positions == (1, 2, 4)
    red, blue, green = (data.items[item] for item in "789")
    assert red.price == 8.5, "the second event of the item holds the price alone"
    assert (red.title, red.attributes) == ("red mug", {"color": "red"})
    assert blue.attributes == {"color": "blue, white"}
    assert green.attributes == {"color": "green"}
    assert report["tables"]["events"]["read"] == 6


def test_elasticsearch(tmp_path: Path) -> None:
    data, report = imported("elastic", tmp_path, **SPLIT)
    assert seen(data) == [
        Seen("ann", "03-01 10:00", "mug", "7:0 8:2 9:0", ""),
        Seen("bob", "03-01 11:00", "teapot", "20:3 21:0", ""),  # 12:00+01:00
        Seen("ann", "03-02 10:00", "kettle", "21:1 20:0 7:0", "click 8, cart 8"),
        Seen("bob", "03-03 09:00", "tray", "30:0 7:1", "purchase 20"),
        Seen("ann", "03-04 10:00", "mug", "9:1 8:0", "click 8, cart 8, click 21"),
    ]
    tray, sorted_by_a_field = lists_of(data)[3:]
    assert (tray.scores, tray.positions) == ((6.0, 4.0), (1, 3))
    assert sorted_by_a_field.scores is None
    assert report["tables"]["lists.0"]["read"] == 6
    assert sum(report["tables"]["lists.0"]["dropped"].values()) == 1, "a search without hits"


def test_mind(tmp_path: Path) -> None:
    data, _ = imported("mind", tmp_path, split__valid_from_train=0.4)
    test = {ranking.list_id: ranking for ranking in data.lists["test"]}
    assert {ranking.list_id for ranking in data.lists["train"] + data.lists["valid"]} == {
        f"train-{n}" for n in range(1, 11)
    }
    assert set(test) == {"test-1", "test-2"}, "the ids of dev start again at 1"
    assert dict(zip(test["test-2"].candidates, test["test-2"].labels or ())) == {"N8": 0, "N30": 0, "N20": 1}
    assert past(test["test-1"]) == "click N7, click N20"
    times = {ranking.list_id: ranking.time.isoformat()[:19] for ranking in lists_of(data) if ranking.time}
    assert times["train-9"] == "2019-11-12T18:11:30"
    assert times["train-10"] == "2019-11-13T00:30:00", "12:30 AM is after midnight"
    assert times["test-2"] == "2019-11-15T12:01:02"
    assert data.items["N7"].title == 'A "red mug for tea', "an open quote is a character"
    assert data.items["N20"].title == 'Teapots" compared'
    assert all(ranking.positions is None for ranking in lists_of(data)), "the published order is shuffled"


def test_jdsearch(tmp_path: Path) -> None:
    data, report = imported("jdsearch", tmp_path, split__valid=0.3, split__test=0.3)
    first, second, third = (
        next(r for r in lists_of(data) if r.list_id.endswith(str(n)) and r.user_id == str(n)) for n in (1, 2, 3)
    )
    assert (first.query, first.candidates, first.labels) == ("50 41", ("7", "8", "9"), (0, 3, 1))
    assert past(first) == "purchase 20, click 8, cart 9"
    assert (second.labels, past(second)) == ((2, 0), "click 7")
    assert past(third) == "click 7", "404 is not among the products"
    assert data.items["7"].title == "41 50", "between words is the control character ^X"
    assert data.items["7"].category == ("9", "8", "7", "6")
    assert report["tables"]["lists.0"]["read"] == 12


@pytest.mark.parametrize(
    "name", ["ubi", "ubi_impressions", "ga4", "segment", "segment_warehouse", "metarank", "elastic"]
)
def test_a_history_never_holds_what_came_of_its_list(name: str, tmp_path: Path) -> None:
    data, _ = imported(name, tmp_path, **SPLIT)
    for ranking in lists_of(data):
        assert ranking.time is not None
        assert all(event.time is not None and event.time < ranking.time for event in ranking.history)


def test_diginetica(tmp_path: Path) -> None:
    data, report = imported("diginetica", tmp_path, split__by="user", split__valid=0, split__test=0)
    assert seen(data) == [
        Seen("11", "05-01 00:00", "501 502", "8:0 7:3 9:0", "view 9"),
        Seen("11", "05-01 00:10", "", "7:0 8:1", "view 9, click 7, view 7, purchase 7"),
        Seen("12", "05-02 00:00", "503", "9:1 10:0", ""),
        Seen("14", "05-05 00:00", "501", "8:0 7:0", "view 7"),
    ]
    assert lists_of(data)[1].context == {"category": "100"}
    assert report["tables"]["lists.0"]["dropped"] == {"not chosen by where": 1}  # of the test

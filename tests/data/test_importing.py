"""What an import makes of good tables: the same lists from every format, histories, labels, splits, books."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from shop_tables import DAY, Shop, write_table

from reshelf.data.dataset_folder import SPLITS, load_dataset_folder
from reshelf.errors import InputError


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_every_format_gives_the_same_lists(shop: Shop, tmp_path: Path, ending: str) -> None:
    data = shop.load(ending)
    first = data.lists["train"][0]
    assert first.candidates == ("001", "003", "005"), "leading zeros of an id stay"
    assert first.labels == (0, 3, 0)
    assert first.query == "mug"
    assert first.time == datetime(1970, 4, 14, tzinfo=UTC)
    assert [(e.kind, e.item_id) for e in first.history] == [("view", "000"), ("click", "001"), ("cart", "002")]
    assert {s: len(lists) for s, lists in data.lists.items()} == {"train": 4, "valid": 1, "test": 1}
    assert data.items["001"].category == ("Home", "Mugs")
    assert data.items["001"].price == 6.0
    other = Shop(tmp_path / "again")
    other.folder.mkdir()
    assert other.load("parquet").lists == data.lists


def test_columns_are_a_lists_context(shop: Shop, tmp_path: Path) -> None:
    for n, row in enumerate(shop.tables["lists"]):
        row |= {"device": 'a "phone"' if n else None, "surface": "search" if n % 2 else " "}
    shop.mapping["lists"][0]["context"] = {"device": "device", "page": "surface"}
    data = shop.load()
    assert [one.context for one in data.lists["train"][:2]] == [{}, {"device": 'a "phone"', "page": "search"}]
    assert data.lists["test"][0].context == {"device": 'a "phone"', "page": "search"}
    pairs = [
        {"id": "q1", "sku": sku, "customer": "u1", "device": device, "bought": 1, "part": "train", "ts": 113 * DAY}
        for sku, device in (("001", "phone"), ("003", "desktop"))
    ]
    shop.tables["pairs"] = pairs
    shop.mapping["pairs"] = shop.mapping.pop("lists")
    shop.mapping["pairs"][0] = {
        "file": "pairs", "list_id": "id", "item_id": "sku", "user_id": "customer", "label": "bought", "split": "part",
        "time": "ts", "context": {"device": "device"},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"pairs\.jsonl row 1 .*field device: the context is .*set list_id_scope"):
        shop.load()
    pairs[1]["device"] = "phone"
    assert shop.load().lists["train"][0].context == {"device": "phone"}


def test_what_is_returned_is_what_is_on_disk(shop: Shop) -> None:
    data = shop.load()
    again = load_dataset_folder(shop.out)
    assert again.items == data.items
    assert again.lists == data.lists
    assert sorted(p.name for p in shop.out.iterdir()) == [
        "items.parquet",
        "report.json",
        "test.parquet",
        "train.parquet",
        "valid.parquet",
    ]


def test_a_second_import_replaces_the_first(shop: Shop) -> None:
    shop.load()
    shop.tables["lists"] = [row for row in shop.tables["lists"] if row["part"] == "train"]
    data = shop.load()
    assert list(data.lists) == ["train"]
    assert list(load_dataset_folder(shop.out).lists) == ["train"]


def test_a_folder_and_a_pattern_are_one_table(shop: Shop) -> None:
    rows = shop.tables.pop("events")
    write_table(shop.folder / "log" / "a.jsonl", rows[:20])
    write_table(shop.folder / "log" / "b.jsonl", rows[20:])
    whole = Shop(shop.folder / "whole")
    whole.folder.mkdir()
    expected = whole.load().lists
    for file in ("log/", "log/*.jsonl"):
        shop.mapping["events"]["file"] = file
        assert shop.load().lists == expected


def test_what_is_dropped_and_repaired_is_counted(shop: Shop) -> None:
    events = shop.tables["events"]
    events += [
        dict(events[0]),
        {"customer": "u0", "sku": "gone", "ts": 100 * DAY, "what": "view"},
        {"customer": "u0", "sku": "001", "ts": 100 * DAY, "what": "wobble"},
        {"customer": "u0", "sku": "001", "ts": None, "what": "view"},
        {"customer": "u0", "sku": "001", "ts": -5, "what": "view"},
        *({"customer": "bot", "sku": "001", "ts": 100 * DAY + s, "what": "view"} for s in range(1001)),
    ]
    items = shop.tables["items"]
    items[0]["cost"] = -1.0
    items[1]["cost"] = 1e12
    items[2]["cost"] = None
    items[3]["name"] = "  "
    data = shop.load()
    tables = shop.report()["tables"]
    assert tables["events"]["dropped"] == {
        "kind not mapped": 1,
        "item not in the catalogue": 1,
        "time missing": 1,
        "time before 1970-01-01 or in the future": 1,
        "shopper with more than 1000 events on one day": 1001,
        "repeated row": 1,
    }
    assert tables["events"]["kept"] == 30
    assert tables["items"]["repaired"] == {
        "price below 0, now missing": 1,
        "price above 1e+07, now missing": 1,
        "title missing, now 'untitled'": 1,
    }
    assert tables["events"]["examples"]["kind not mapped"] == ["wobble: 1"]
    examples = tables["items"]["examples"]
    assert examples["price below 0, now missing"] == ["-1.0"]
    assert examples["title missing, now 'untitled'"] == ["item 003"]
    assert [data.items[f"{n:03d}"].price for n in range(4)] == [None, None, None, 8.0]
    for counts in tables.values():
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())


def test_raw_labels_become_grades(shop: Shop) -> None:
    for row in shop.tables["lists"]:
        row["bought"] = [1.0, 2.4, 5.0]
    shop.mapping["lists"][0]["thresholds"] = [2, 3, 5]
    assert shop.load().lists["train"][0].labels == (0, 1, 3)
    for row in shop.tables["lists"]:
        row["bought"] = ["Exact", "Partial", "No"]
    del shop.mapping["lists"][0]["thresholds"]
    shop.mapping["lists"][0]["grades"] = {"Exact": 3, "Partial": 1, "No": 0}
    assert shop.load().lists["train"][0].labels == (3, 1, 0)


def test_pairs_become_lists_in_order_of_position(shop: Shop) -> None:
    shop.tables["pairs"] = [
        {"id": "a", "sku": "005", "rank": 2, "stars": 0, "part": "train"},
        {"id": "b", "sku": "001", "rank": 1, "stars": 0, "part": "test"},
        {"id": "a", "sku": "003", "rank": 1, "stars": 1, "part": "train"},
        {"id": "a", "sku": "005", "rank": 3, "stars": 3, "part": "train"},
    ]
    shop.mapping["pairs"] = [
        {"file": "pairs", "list_id": "id", "item_id": "sku", "position": "rank", "label": "stars", "split": "part"}
    ]
    del shop.mapping["lists"], shop.mapping["events"], shop.tables["lists"]
    data = shop.load()
    ranking = data.lists["train"][0]
    assert ranking.candidates == ("003", "005")
    assert ranking.labels == (1, 3), "an item that comes again keeps its best label"
    assert ranking.positions == (1, 2)
    assert ranking.user_id == "anyone"
    assert shop.report()["tables"]["pairs.0"]["dropped"] == {"item again in the same list, best label kept": 1}


def test_an_impression_log_is_labelled_by_what_came_after(shop: Shop) -> None:
    shown = 104 * DAY + 10
    shop.tables["shown"] = [
        {"user": "u0", "sku": sku, "rank": rank, "ts": shown, "part": "train"}
        for rank, sku in enumerate(("001", "002", "007", "008"), 1)
    ]
    shop.tables["events"] += [
        {"customer": "u0", "sku": "002", "ts": shown + 60, "what": "click"},
        {"customer": "u0", "sku": "002", "ts": shown + 90, "what": "purchase"},
        {"customer": "u0", "sku": "007", "ts": shown + 2 * DAY, "what": "purchase"},
        {"customer": "u1", "sku": "008", "ts": shown + 60, "what": "purchase"},
    ]
    shop.mapping["pairs"] = [
        {"file": "shown", "user_id": "user", "time": "ts", "item_id": "sku", "position": "rank", "split": "part"}
    ]
    del shop.mapping["lists"]
    ranking = shop.load().lists["train"][0]
    assert ranking.labels == (0, 3, 0, 0), "not the day after next, not somebody else's, not the click before the list"
    assert all(event.time < ranking.time for event in ranking.history if event.time and ranking.time)
    assert "001" in {event.item_id for event in ranking.history}


def test_events_of_the_list_itself_are_its_outcome_not_its_history(shop: Shop) -> None:
    for event in shop.tables["events"]:
        event["request"] = None
    shop.tables["events"].append(
        {"customer": "u0", "sku": "003", "ts": 103 * DAY - 1, "what": "purchase", "request": "q0"}
    )
    shop.mapping["events"]["list_id"] = "request"
    ranking = next(r for r in shop.load().lists["train"] if r.list_id == "q0")
    assert [e.item_id for e in ranking.history] == ["000", "001", "002"]


def test_no_shopper_is_in_two_splits_when_told_so(shop: Shop) -> None:
    shop.mapping["split"] = {"by": "time", "valid": 0.2, "test": 0.2, "guard_users": True}
    del shop.mapping["lists"]
    shop.mapping["build"] = {"candidates": 4, "per_user": 5, "min_grade": 1}
    data = shop.load()
    users = [{r.user_id for r in lists} for lists in data.lists.values()]
    assert not set.intersection(*users)
    assert sum(map(len, users)) == len(set.union(*users))


@pytest.mark.parametrize("rule", ["user", "query"])
def test_splits_by_share_hold_groups_together(shop: Shop, rule: str) -> None:
    for n in range(60):
        shop.tables["lists"].append(
            {**shop.tables["lists"][0], "id": f"x{n}", "customer": f"c{n % 20}", "text": f"t{n % 20}"}
        )
    del shop.mapping["lists"][0]["split"]
    shop.mapping["split"] = {"by": rule, "valid": 0.3, "test": 0.3}
    data = shop.load()
    assert set(data.lists) == set(SPLITS)
    keys = [{getattr(r, "user_id" if rule == "user" else "query") for r in lists} for lists in data.lists.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert data.lists == shop.load().lists, "the same seed gives the same split"
    assert data.lists != shop.load(seed=1).lists


def test_limit_cuts_every_split_and_says_so(shop: Shop) -> None:
    data = shop.load(limit=1)
    assert all(len(lists) == 1 for lists in data.lists.values())
    assert shop.report()["tables"]["lists before --limit"]["dropped"] == {"more than 1 per split": 3}


def test_changes_override_the_mapping(shop: Shop) -> None:
    data = shop.load(changes={"items.brand": "path", "lists.0.query": "part"})
    assert data.items["001"].brand == "Home > Mugs"
    assert data.lists["test"][0].query == "test"


def test_times_may_be_text_or_numbers(shop: Shop) -> None:
    expected = shop.load().lists
    for row in (*shop.tables["events"], *shop.tables["lists"]):
        row["ts"] = datetime.fromtimestamp(row["ts"], timezone(timedelta(hours=2))).isoformat()
    assert shop.load().lists == expected


def test_counts_are_made_on_what_came_before_the_first_held_out_list(shop: Shop) -> None:
    shop.mapping["signals"] = {"names": ["popularity"]}
    data = shop.load()
    cut = min(row["ts"] for row in shop.tables["lists"] if row["part"] != "train")
    ranking = data.lists["test"][0]
    for candidate, value in zip(ranking.candidates, ranking.features["popularity"]):
        who = {e["customer"] for e in shop.tables["events"] if e["sku"] == candidate and e["ts"] < cut}
        assert value == pytest.approx(np.log1p(len(who)))
    assert any(ranking.features["popularity"])


@pytest.mark.parametrize("own", [{}, {"file_index": 7}])
def test_rows_of_parquet_files_are_counted_through_all_files(shop: Shop, own: dict[str, int]) -> None:
    """Also where a column of the files hides DuckDB's of the same name."""
    rows = shop.tables.pop("events")
    rows[24]["sku"] = "gone"
    for name, some in (("b", rows[20:]), ("a", rows[:20])):
        write_table(shop.folder / "log" / f"{name}.parquet", [row | own for row in some])
    shop.mapping["events"] |= {"file": "log/", "on_unknown": "error", "where": {"what": {"not": "view"}}}
    with pytest.raises(InputError, match=r"b\.parquet row 4, field sku: item 'gone'"):
        shop.load("parquet")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_folder_does_not_take_the_place_of_a_column(shop: Shop, ending: str) -> None:
    """DuckDB reads `what` from the folder `what=view` though the files have it."""
    expected = shop.load().lists
    below = shop.folder / "what=view" / "sku=001"
    below.mkdir(parents=True)
    shop.folder = below
    assert shop.load(ending).lists == expected


def test_a_folder_of_parquet_files_names_a_column_that_they_lack(shop: Shop) -> None:
    rows = [{name: value for name, value in row.items() if name != "what"} for row in shop.tables.pop("events")]
    write_table(shop.folder / "log" / "what=click" / "a.parquet", rows)
    shop.mapping["events"] |= {"file": "log/"}
    shop.load("parquet")
    assert shop.report()["tables"]["events"]["kept"] > 0


def test_a_product_twice_in_a_basket_is_no_repeated_row(shop: Shop) -> None:
    basket = {"customer": "u0", "sku": ["001", "001", "003"], "ts": 99 * DAY, "what": "purchase"}
    shop.tables["events"] = [basket]
    shop.load("parquet")
    assert shop.report()["tables"]["events"]["kept"] == 3
    shop.tables["events"] = [basket, basket]
    shop.load("parquet")
    assert shop.report()["tables"]["events"]["dropped"] == {"repeated row": 3}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_may_be_called_as_those_of_the_importer(shop: Shop, ending: str) -> None:
    expected = shop.load().lists
    names = {"sku": "row", "customer": "place"}
    shop.tables["events"] = [{names.get(k, k): value for k, value in row.items()} for row in shop.tables["events"]]
    shop.mapping["events"] |= {"item_id": "row", "user_id": "place"}
    shop.mapping["lists"][0] |= {"list_separator": "|"}
    assert shop.load(ending).lists == expected

"""Ordinary logs that are easy to get wrong: labels, histories and counts computed by hand, or refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from reshelf.data.dataset_folder import RankingData
from reshelf.data.importing.importer import ImportConfig, import_logs
from reshelf.errors import InputError

Imported = tuple[RankingData, dict[str, Any]]
EVENTS = {"file": "events.csv", "user_id": "u", "item_id": "i", "time": "t", "kind_column": "k"}
SHOWN = {
    "file": "shown.csv", "list_id": "l", "user_id": "u", "time": "t", "query": "q", "item_id": "i", "position": "r",
}  # fmt: skip


def shop(
    folder: Path, events: str, shown: str, change: dict[str, Any] | None = None, more: dict[str, str] | None = None
) -> Imported:
    """Import `user,item,time,kind` rows and `list,user,time,query,item,position` rows of 1 March 2024, a day before the
    log ends, so that no window for outcomes is open."""
    head = "u,i,t,k"
    rows = [row if "," in row else "" for row in events.split()]
    end = f"z,p9,2024-03-09 00:00:00,view{',' * (rows[0].count(',') - 3)}"
    files = {
        "products.csv": "sku,name\n" + "".join(f"p{n},Thing {n}\n" for n in range(10)),
        "events.csv": "\n".join([head + (",id" if rows[0].count(",") == 4 else ""), *map(_day, rows), end]) + "\n",
        "shown.csv": "\n".join(["l,u,t,q,i,r", *map(_day, shown.split())]) + "\n",
    } | (more or {})
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    mapping: dict[str, Any] = {
        "items": {"file": "products.csv", "item_id": "sku", "title": "name"}, "events": dict(EVENTS),
        "pairs": [dict(SHOWN)], "split": {"by": "user", "valid": 0, "test": 0},
    }  # fmt: skip
    for key, value in (change or {}).items():
        part, _, name = key.partition(".")
        if name:
            (mapping[part][0] if isinstance(mapping[part], list) else mapping[part])[name] = value
        else:
            mapping[part] = value
    (folder / "m.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
    data = import_logs(ImportConfig(mapping=str(folder / "m.yaml"), root=folder, out=folder / "out", quiet=True))
    return data, json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))


def _day(row: str) -> str:
    return ",".join(f"2024-03-01 {cell}" if cell[2:3] == ":" else cell for cell in row.split(","))


def labels(imported: Imported) -> dict[str, dict[str, int]]:
    lists = [r for lists in imported[0].lists.values() for r in lists]
    return {r.list_id: dict(zip(r.candidates, r.labels or (), strict=True)) for r in lists}


def history(imported: Imported, list_id: str) -> list[str | None]:
    return next([e.item_id for e in r.history] for ls in imported[0].lists.values() for r in ls if r.list_id == list_id)


ONE = "L1,a,10:00:00,mug,p0,1 L1,a,10:00:00,mug,p1,2"
TWO = ONE + " L2,a,11:00:00,cup,p0,1 L2,a,11:00:00,cup,p2,2"


@pytest.mark.parametrize(("rule", "first"), [("last_touch", 0), ("every_list", 3)])
def test_a_purchase_falls_to_the_last_list_or_on_request_to_every_one(tmp_path: Path, rule: str, first: int) -> None:
    found = shop(tmp_path, "a,p0,12:00:00,purchase", TWO, {"pairs.attribution": rule})
    assert labels(found) == {"L1": {"p0": first, "p1": 0}, "L2": {"p0": 3, "p2": 0}}


def test_a_purchase_outside_the_window_is_no_outcome(tmp_path: Path) -> None:
    found = shop(tmp_path, "a,p0,12:00:00,purchase", ONE, {"pairs.window_hours": 1.5})
    assert labels(found) == {"L1": {"p0": 0, "p1": 0}}


@pytest.mark.parametrize(("hours", "grades"), [(1, (3, 0)), (48, (0, 3))])
def test_a_list_whose_window_is_over_claims_nothing(tmp_path: Path, hours: int, grades: tuple[int, int]) -> None:
    """The purchase of p0 is ten hours after the search, nine after the recommendations, which came last."""
    tables = [SHOWN | {"window_hours": 48}, SHOWN | {"file": "slots.csv", "window_hours": hours}]
    slots = {"slots.csv": "l,u,t,q,i,r\nL2,a,2024-03-01 11:00:00,,p0,1\n"}
    found = shop(tmp_path, "a,p0,20:00:00,purchase", ONE, {"pairs": tables}, slots)
    assert labels(found) == {"L1": {"p0": grades[0], "p1": 0}, "L2": {"p0": grades[1]}}


def test_what_is_taken_back_has_no_grade_and_leaves_the_history(tmp_path: Path) -> None:
    events = "a,p0,10:01:00,cart a,p1,10:02:00,cart a,p0,10:03:00,remove_from_cart"
    found = shop(tmp_path, events, TWO)
    assert labels(found)["L1"] == {"p0": 0, "p1": 2}
    assert history(found, "L2") == ["p1"]
    assert found[1]["taken_back"] == 1
    found = shop(tmp_path, events, TWO, {"events.kinds": {"remove_from_cart": "view"}})  # the mapping's own word
    assert labels(found)["L1"] == {"p0": 2, "p1": 2}


def test_a_click_whose_clock_is_ahead_is_the_outcome_and_not_the_history(tmp_path: Path) -> None:
    found = shop(tmp_path, "a,p0,09:59:58,click a,p1,09:59:50,click", ONE)
    assert labels(found) == {"L1": {"p0": 1, "p1": 0}}
    assert history(found, "L1") == ["p1"]


def test_a_bots_events_and_lists_are_dropped(tmp_path: Path) -> None:
    bot = " ".join(f"b,p{n % 9},09:{n // 60:02d}:{n % 60:02d},view" for n in range(30))
    shown = ONE + " L2,b,11:00:00,cup,p0,1"
    found = shop(tmp_path, f"a,p0,10:01:00,click {bot}", shown, {"events.max_per_day": 20})
    assert list(labels(found)) == ["L1"]
    assert found[1]["tables"]["pairs.0"]["dropped"] == {"list of a dropped bot": 1}


def test_a_person_whose_events_are_delivered_twice_is_no_bot(tmp_path: Path) -> None:
    events = " ".join(f"a,p{n % 9},09:00:{n:02d},view,e{n}" for n in range(15)) + " "
    found = shop(tmp_path, events * 2, ONE, {"events.max_per_day": 20, "events.event_id": "id"})
    assert len(history(found, "L1")) == 15
    assert found[1]["tables"]["events"]["dropped"] == {"event id seen before": 15}


def test_lists_at_the_end_of_the_log_are_dropped_and_counted(tmp_path: Path) -> None:
    late = ONE + " L2,a,2024-03-08T23:00:00,cup,p0,1"
    found = shop(tmp_path, "a,p0,10:01:00,click", late)
    assert list(labels(found)) == ["L1"]
    assert found[1]["tables"]["pairs.0"]["dropped"] == {"window for outcomes still open when the log ends": 1}


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        ("L1,a,10:00:00,mug,p0,1 L2,a,11:59:00,mug,p1,1", ["L1"]),
        ("L1,a,10:00:00,mug,p0,1 L2,a,13:00:00,mug,p1,1", ["L1", "L2"]),
    ],
)
def test_a_log_shorter_than_the_window_loses_only_what_came_at_its_end(
    tmp_path: Path, shown: str, kept: list[str]
) -> None:
    """The last tenth of 09:00 to 12:00 begins at 11:42; of a list after the last event nothing is known."""
    events = {"events.csv": "u,i,t,k\na,p5,2024-03-01 09:00:00,view\nb,p3,2024-03-01 12:00:00,view\n"}
    found = shop(tmp_path, "a,p5,09:00:00,view", shown, more=events)
    assert list(labels(found)) == kept
    assert any("still open when the log ends" in warning for warning in found[1]["warnings"])
    assert any("later than the last event" in warning for warning in found[1]["warnings"]) == (len(kept) == 2)


def test_a_column_that_is_there_twice_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    twice = "u,i,u,t,k\na,p0,b,2024-03-01 10:01:00,click\n"
    with pytest.raises(InputError, match="there are 2 columns 'u'; rename all but one"):
        shop(tmp_path, "a,p0,10:01:00,click", ONE, more={"events.csv": twice})
    with pytest.raises(InputError, match=r"shown\.csv is empty"):
        shop(tmp_path, "a,p0,10:01:00,click", ONE, more={"shown.csv": ""})
    with pytest.raises(InputError, match="field r: 'first' is not a number"):
        shop(tmp_path, "a,p0,10:01:00,click", "L1,a,10:00:00,mug,p0,first")


def test_a_folder_stands_for_all_files_below_it(tmp_path: Path) -> None:
    days = {f"log/day={day}/{name}.csv": f"u,i,t,k\n{row}\n" for day, name, row in (
        (1, "part-0", "a,p0,2024-03-01 10:01:00,click"), (9, "part-0", "z,p9,2024-03-09 00:00:00,view"),
        (9, "_part-1", "a,p1,2024-03-01 10:01:00,click"),
    )}  # fmt: skip
    for name in days:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    found = shop(tmp_path, "a,p5,09:00:00,view", ONE, {"events.file": "log"}, days)
    assert labels(found) == {"L1": {"p0": 1, "p1": 0}}


@pytest.mark.parametrize("name", ["events.csv", "shown.csv", "products.csv"])
def test_a_file_with_nothing_but_its_header_is_refused_with_what_is_missing(tmp_path: Path, name: str) -> None:
    head = {"events.csv": "u,i,t,k\n", "shown.csv": "l,u,t,q,i,r\n", "products.csv": "sku,name\n"}[name]
    words = {"events.csv": "there are no events in it", "shown.csv": "no list is left"}
    with pytest.raises(InputError, match=words.get(name, "none of . events is usable")):
        shop(tmp_path, "a,p0,10:01:00,click", ONE, more={name: head})


def test_a_yes_or_no_that_is_neither_is_refused(tmp_path: Path) -> None:
    rows = "l,u,t,q,i,r,c\nL1,a,2024-03-01 10:00:00,mug,p0,1,{}\nL1,a,2024-03-01 10:00:00,mug,p1,2,\n"
    for text, grade in (("TRUE", 1), ("y", 1), ("2", 1), ("0.0", 0), ("off", 0), ("", 0)):
        found = shop(tmp_path, "a,p5,09:00:00,view", ONE, {"pairs.label": {"c": 1}}, {"shown.csv": rows.format(text)})
        assert labels(found) == {"L1": {"p0": grade, "p1": 0}}
    with pytest.raises(InputError, match=r"row 0 \(line 2\), field c: maybe is neither yes nor no"):
        shop(tmp_path, "a,p5,09:00:00,view", ONE, {"pairs.label": {"c": 1}}, {"shown.csv": rows.format("maybe")})


def test_a_mistake_behind_a_line_break_is_on_the_line_where_it_stands(tmp_path: Path) -> None:
    rows = 'l;u;t;q;i;r\nL1;a;2024-03-01 10:00:00;"red\nmug, big";p0;1\nL1;a;2024-03-01 10:00:00;mug;p1;first\n'
    with pytest.raises(InputError, match=r"shown\.csv row 1 \(line 4\), field r: 'first' is not a number"):
        shop(tmp_path, "a,p0,10:01:00,click", ONE, more={"shown.csv": rows})


def test_delivered_twice_with_one_id_is_one_event(tmp_path: Path) -> None:
    found = shop(tmp_path, "a,p6,09:10:00,view,e1 a,p6,09:10:03,view,e1", ONE, {"events.event_id": "id"})
    assert history(found, "L1") == ["p6"]
    assert found[1]["tables"]["events"]["dropped"] == {"event id seen before": 1}


def test_a_delisted_product_leaves_the_places_of_the_others(tmp_path: Path) -> None:
    found = shop(tmp_path, "a,p0,10:01:00,click", "L1,a,10:00:00,mug,p0,1 L1,a,10:00:00,mug,x,2 L1,a,10:00:00,mug,p1,3")
    [ranking] = found[0].lists["train"]
    assert (ranking.candidates, ranking.positions) == (("p0", "p1"), (1, 3))
    with pytest.raises(InputError, match="'x' is not in the catalogue"):
        shop(tmp_path, "a,p0,10:01:00,click", "L1,a,10:00:00,mug,x,1", {"pairs.on_unknown": "error"})


def test_a_product_twice_in_a_list_counts_once_with_its_best_label(tmp_path: Path) -> None:
    row = {"l": "L1", "u": "a", "t": "2024-03-01 10:00:00", "c": ["p0", "p1", "p0"], "y": [0, 0, 2]}
    lists = {"file": "lists.jsonl", "list_id": "l", "user_id": "u", "time": "t", "candidates": "c", "labels": "y"}
    found = shop(tmp_path, "a,p5,09:00:00,view", ONE, {"pairs": [], "lists": [lists]}, {"lists.jsonl": json.dumps(row)})
    assert labels(found) == {"L1": {"p0": 2, "p1": 0}}
    assert found[1]["tables"]["lists.0"]["repaired"] == {"item again in the same list, best label kept": 1}


def test_a_sessions_pages_come_one_after_the_other_whatever_the_order_of_rows(tmp_path: Path) -> None:
    session = {**SHOWN, "session_hours": 0.5, "position": None, "list_id": None}
    rows = "-,a,10:01:00,mug,p3,1 -,a,10:01:00,mug,p4,2 -,a,10:00:00,mug,p0,1 -,a,10:00:00,mug,p1,2"
    for position in (None, "r"):
        found = shop(tmp_path, "a,p5,09:00:00,view", rows, {"pairs": [session | {"position": position}]})
        assert [list(of_list) for of_list in labels(found).values()] == [["p0", "p1", "p3", "p4"]]


def test_an_import_without_a_list_says_why_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        shop(tmp_path, "a,p0,10:01:00,click", "L1,a,10:00:00,mug,x,1 L2,,10:00:00,mug,p1,1")
    assert "of pairs.0, item not in the catalogue (x): 1, shopper id missing: 1" in str(caught.value)
    assert "{" not in str(caught.value)


def test_imports_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    here, folders = Path.cwd(), [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda folder: shop(folder, f"{folder.name},p0,09:00:00,view", ONE), folders))
    assert [len(history(one, "L1")) for one in found] == [1, 0, 0, 0]
    assert Path.cwd() == here


def test_places_from_zero_are_stated(tmp_path: Path) -> None:
    found = shop(tmp_path, "a,p0,10:01:00,click", "L1,a,10:00:00,mug,p0,0 L1,a,10:00:00,mug,p1,1")
    assert found[0].lists["train"][0].positions == (1, 2)
    assert found[1]["tables"]["pairs.0"]["repaired"] == {"positions counted from 0, one added": 2}


def test_one_list_id_for_two_shoppers_is_an_error_or_two_lists(tmp_path: Path) -> None:
    shown = "L1,a,10:00:00,mug,p0,1 L1,b,10:05:00,mug,p0,1"
    with pytest.raises(InputError, match="list_id_scope"):
        shop(tmp_path, "b,p0,10:06:00,click", shown)
    found = shop(tmp_path, "b,p0,10:06:00,click", shown, {"pairs.list_id_scope": ["list_id", "user_id"]})
    assert labels(found) == {"L1/a": {"p0": 0}, "L1/b": {"p0": 1}}


def test_two_slots_of_one_page_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at position 1; set list_id_scope"):
        shop(tmp_path, "a,p0,10:01:00,click", "L1,a,10:00:00,mug,p0,1 L1,a,10:00:00,mug,p1,1")


def test_variants_count_as_their_parent(tmp_path: Path) -> None:
    parents = {"parents": {"file": "skus.csv", "item_id": "sku", "parent_id": "product"}}
    found = shop(
        tmp_path, "a,p0-RED,10:05:00,purchase", ONE, parents, {"skus.csv": "sku,product\np0-RED,p0\np1-XL,p1\n"}
    )
    assert labels(found) == {"L1": {"p0": 3, "p1": 0}}


def test_rows_without_a_shopper_or_a_list_are_dropped(tmp_path: Path) -> None:
    found = shop(tmp_path, "a,p0,10:01:00,click", ONE + " L2,,10:00:00,mug,p0,1 ,a,10:00:00,mug,p2,1")
    assert labels(found) == {"L1": {"p0": 1, "p1": 0}}
    assert found[1]["tables"]["pairs.0"]["dropped"] == {"shopper id missing": 1, "list id missing": 1}


def test_events_of_two_tables_with_grades_of_their_own(tmp_path: Path) -> None:
    orders = {"file": "orders.csv", "user_id": "who", "item_id": "sku", "time": "at", "kind": "purchase"}
    clicks = EVENTS | {"grades": {"view": 1, "wishlist": 2}}
    found = shop(
        tmp_path, "a,p0,10:01:00,view a,p1,10:02:00,wishlist", ONE, {"events": [clicks, orders]},
        {"orders.csv": "who,sku,at\na,p0,2024-03-01 10:09:00\n"},
    )  # fmt: skip
    assert labels(found) == {"L1": {"p0": 3, "p1": 2}}


@pytest.mark.parametrize(
    "where",
    [{"k": {"not": "view"}}, {"k": ["click", "cart"]}, {"t": ">=2024-03-01 09:30:00"}, {"t": {"to": "2024-03-09"}}],
)
def test_where_knows_not_lists_and_ranges(tmp_path: Path, where: dict[str, Any]) -> None:
    found = shop(
        tmp_path, "a,p5,09:00:00,view a,p0,10:01:00,click", ONE, {"events.where": where, "pairs.window_hours": 0}
    )
    assert history(found, "L1") == (["p5"] if "to" in str(where) else [])


def test_a_price_is_that_of_the_lists_time(tmp_path: Path) -> None:
    prices = (
        "sku,name,price,since\np0,Mug,10,2024-01-01\np0,Mug,20,2024-03-01 10:30:00\np1,Cup,5,2024-01-01\np2,Pot,7,\n"
    )
    dated = {"file": "products.csv", "item_id": "sku", "title": "name", "price": "price", "valid_from": "since"}
    found = shop(tmp_path, "a,p0,10:01:00,click", TWO, {"items": dated}, {"products.csv": prices})
    assert [r.prices for r in found[0].lists["train"]] == [(10.0, 5.0), (20.0, 7.0)]
    later = prices.replace("p2,Pot,7,", "p2,Pot,7,2024-06-01")  # nobody knew it yet
    found = shop(tmp_path, "a,p0,10:01:00,click", TWO, {"items": dated}, {"products.csv": later})
    assert [r.prices for r in found[0].lists["train"]] == [(10.0, 5.0), (20.0, None)]


def test_a_built_lists_prices_are_those_of_its_time(tmp_path: Path) -> None:
    prices = "sku,name,price,since\np0,Mug,10,2024-01-01\np0,Mug,20,2024-03-01 10:30:00\np1,Cup,5,\np2,Pot,7,\n"
    dated = {"file": "products.csv", "item_id": "sku", "title": "name", "price": "price", "valid_from": "since"}
    change = {"items": dated, "pairs": [], "build": {"candidates": 2, "min_history": 0, "per_user": 9}}
    found = shop(
        tmp_path, "a,p0,10:00:00,click b,p0,11:00:00,click", ONE, change, {"products.csv": prices}
    )  # fmt: skip
    got = {r.user_id: dict(zip(r.candidates, r.prices or (), strict=True)) for r in found[0].lists["train"]}
    assert (got["a"]["p0"], got["b"]["p0"]) == (10.0, 20.0)
    assert found[0].items["p0"].price == 20.0


def test_an_id_that_many_share_is_named(tmp_path: Path) -> None:
    events = " ".join(f"0,p{n % 9},09:{n // 60:02d}:{n % 60:02d},view" for n in range(300))
    found = shop(tmp_path, events, "L1,0,10:00:00,mug,p0,1")
    assert any("user id '0' has 300 of 301 events" in warning for warning in found[1]["warnings"])


def test_splits_by_time_are_cut_on_lists(tmp_path: Path) -> None:
    shown = " ".join(f"L{n},a,1{n}:00:00,mug,p0,1" for n in range(9))
    found = shop(tmp_path, "a,p0,08:00:00,purchase", shown, {"split": {"by": "time", "valid": 0.2, "test": 0.2}})
    assert {split: len(lists) for split, lists in found[0].lists.items()} == {"train": 5, "valid": 2, "test": 2}
    events = "a,p0,08:00:00,purchase b,gone,16:00:00,view a,p1,16:30:00,view"
    found = shop(tmp_path, events, shown, {"split": {"by": "time", "valid": 0.2, "test": 0.2}})
    shares = {split: (f["events_with_item"], f["events_with_lists"]) for split, f in found[1]["lists"].items()}
    assert shares == {"train": (1.0, 1.0), "valid": (0.5, 1.0), "test": (1.0, 0.0)}
    found = shop(tmp_path, "a,p0,08:00:00,purchase", shown, {"split": {"by": "user"}})
    assert any("by user no list is left for valid and test: too few users" in text for text in found[1]["warnings"])
    with pytest.raises(InputError, match="valid_from 2024-03-02 is after test_from 2024-03-01; test is the latest"):
        shop(tmp_path, events, shown, {"split": {"valid_from": "2024-03-02", "test_from": "2024-03-01"}})
    with pytest.raises(InputError, match=r"no list is left for train .* would leave some in each"):
        shop(tmp_path, "a,p0,08:00:00,purchase", shown, {"split": {"by": "time", "valid_from": "2024-01-01"}})

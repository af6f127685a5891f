"""One list id for several lists: those of other times are lists of their own, all others an error."""

from __future__ import annotations

import pytest
from export import LISTS, RIGHT, SHOWN, Export
from log_samples import lists_of

LATER = SHOWN.split("\n", 1)[1].replace("T10:00", "T14:00")
CLICKS = (
    "user,sku,time,kind,list\nann,5,2026-03-01T09:00:00Z,view,\nann,2,2026-03-01T10:00:30Z,click,L1\n"
    "ann,3,2026-03-01T14:00:20Z,click,L1\nzoe,1,2026-04-01T00:00:00Z,view,\n"
)
AGAIN = {"list id used again, a list of its own": 1}


def ids(export: Export) -> list[str]:
    return [one.list_id for one in lists_of(export.data)]


def test_what_is_shown_again_hours_later_is_another_list(export: Export) -> None:
    """As where the id is made of the shopper and the query."""
    export.mapping["events"]["list_id"] = "list"
    export.files |= {"shown.csv": SHOWN + LATER, "events.csv": CLICKS}
    assert export.load() == ["1:0 2:1 3:0 | view 5", "1:0 2:0 3:1 | view 5, click 2"]
    assert ids(export) == ["L1", "L1/2"]
    assert export.report["tables"]["pairs.0"]["repaired"] == AGAIN
    assert export.report["tables"]["pairs.0"]["dropped"] == {}


def test_pages_far_apart_are_one_list_if_nothing_comes_again(export: Export) -> None:
    page = "".join(f"L1,ann,2026-03-01T10:45:00Z,mug,{n},{n}\n" for n in (4, 6))
    export.files["shown.csv"] = SHOWN + page
    assert export.load() == ["1:0 2:3 3:0 4:0 6:0 | view 5"]
    export.files["shown.csv"] = SHOWN + page.replace("03-01", "03-04")
    assert export.load() == [RIGHT, "4:0 6:0 | view 5, click 2, purchase 2"]


def test_what_was_chosen_hours_later_is_of_the_list_before(export: Export) -> None:
    """Rows of one table are shown, clicked and bought, as a label says."""
    rows = "L1,ann,2026-03-01T10:00:00Z,mug,{},{},{}\n"
    first = "".join(rows.format(sku, sku, "no") for sku in (1, 2, 3))
    bought = rows.format(2, 2, "yes").replace("T10:00", "T11:00")
    export.files["shown.csv"] = "list,user,time,q,sku,rank,bought\n" + first + bought
    export.mapping["pairs"] |= {"label": "bought", "grades": {"yes": 3, "no": 0}}
    assert export.load() == ["1:0 2:3 3:0 | view 5"]
    assert ids(export) == ["L1"]
    later = (first + rows.format(3, 4, "yes")).replace("T10:00", "T14:00")
    export.files["shown.csv"] += later.replace("1,1,no", "4,1,yes")
    assert export.load() == ["1:0 2:3 3:0 | view 5", "4:3 2:0 3:3 | view 5, click 2, purchase 2"]


def test_rows_that_hold_whole_lists(export: Export) -> None:
    export.mapping["events"]["list_id"] = "list"
    export.files["events.csv"] = CLICKS
    later = LISTS[0] | {"time": "2026-03-01T14:00:00Z"}
    export.of_lists([*LISTS, later])
    assert export.load() == ["1:0 2:1 3:0 | view 5", "1:0 2:0 3:1 | view 5, click 2"]
    assert ids(export) == ["L1", "L1/2"]
    assert export.report["tables"]["lists.0"]["repaired"] == AGAIN
    export.files["lists.jsonl"] = [*LISTS, LISTS[0] | {"time": "2026-03-01T10:00:02Z"}]
    assert export.load() == ["1:0 2:1 3:1 | view 5"]
    assert export.report["tables"]["lists.0"]["dropped"] == {"list delivered again": 1}


def test_pages_and_shoppers_of_one_id_are_lists_of_their_own(export: Export) -> None:
    """An event that names the id belongs to its shopper's, and to the page that showed the product."""
    export.mapping["events"]["list_id"] = "list"
    export.files["events.csv"] = (
        CLICKS.replace("ann,3,2026-03-01T14:00:20Z", "ann,4,2026-03-01T10:01:00Z")
        + "bob,3,2026-03-01T10:00:09Z,click,L1\n"
    )
    page = {"time": "2026-03-01T10:00:40Z", "hits": ["4", "6"]}
    export.of_lists([*LISTS, LISTS[0] | page, LISTS[0] | {"user": "bob"}])
    assert export.load() == ["1:0 2:1 3:0 | view 5", "1:0 2:0 3:1 | ", "4:1 6:0 | view 5, click 2"]
    assert ids(export) == ["L1", "L1/2", "L1/3"]


def test_a_row_for_each_click_holds_the_list_again(export: Export) -> None:
    rows = [LISTS[0] | {"time": f"2026-03-01T10:00:{n}0Z", "bought": sku} for n, sku in enumerate("232")]
    assert export.of_lists(rows, target="bought").load() == ["1:0 2:3 3:3 | view 5"]
    again = {"list delivered again": 1, "list again with other labels, the best kept": 1}
    assert export.report["tables"]["lists.0"]["dropped"] == again


@pytest.mark.parametrize(("row", "key"), [("L1,bob,{},mug,4,4", "user_id"), ("L1,ann,{},cup,4,4", "query")])
def test_another_shopper_or_query_at_that_time_is_an_error(export: Export, row: str, key: str) -> None:
    export.files["shown.csv"] = SHOWN + row.format("2026-03-01T10:00:00Z") + "\n"
    export.refused(rf"set list_id_scope: \[list_id, {key}\]")

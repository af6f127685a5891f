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
AGAIN = {"list id used again more than half an hour later, a list of its own": 1}


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


def test_rows_that_hold_whole_lists(export: Export) -> None:
    export.mapping["events"]["list_id"] = "list"
    export.files["events.csv"] = CLICKS
    later = LISTS[0] | {"time": "2026-03-01T14:00:00Z"}
    export.of_lists([*LISTS, later])
    assert export.load() == ["1:0 2:1 3:0 | view 5", "1:0 2:0 3:1 | view 5, click 2"]
    assert ids(export) == ["L1", "L1/2"]
    assert export.report["tables"]["lists.0"]["repaired"] == AGAIN
    export.files["lists.jsonl"] = [*LISTS, LISTS[0] | {"time": "2026-03-01T10:00:02Z"}]
    export.refused("'L1' is there already .* set list_id_scope")


@pytest.mark.parametrize(("row", "key"), [("L1,bob,{},mug,4,4", "user_id"), ("L1,ann,{},cup,4,4", "query")])
def test_another_shopper_or_query_at_that_time_is_an_error(export: Export, row: str, key: str) -> None:
    export.files["shown.csv"] = SHOWN + row.format("2026-03-01T10:00:00Z") + "\n"
    export.refused(rf"set list_id_scope: \[list_id, {key}\]")

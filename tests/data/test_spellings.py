"""The same thing spelt in several ways in one log."""

from __future__ import annotations

from typing import Any

import pytest
from export import Export

HEAD = "user,sku,time,kind\nann,5,2026-03-01T09:00:00Z,view\n"
PLACED = HEAD + "ann,2,2026-03-01T10:05:00Z,{}\nzoe,1,2026-04-01T00:00:00Z,view\n"


@pytest.mark.parametrize(
    ("keys", "said", "grade"),
    [
        ({"kinds": {"add_to_cart": "cart"}}, "Add to Cart", 2),
        ({"kinds": {"add_to_cart": "cart"}}, "addToCart", 2),
        ({"kinds": {"add_to_cart": "cart", "AddToCart": "click"}}, "AddToCart", 1),
        ({"grades": {"wish_list": 2}}, "Wish List", 2),
        ({"kinds": {"View ": "purchase"}}, "VIEW", 0),  # of two that it may be, none
        ({"kinds": {"remove_from_cart": "click"}}, "Remove From Cart", 1),
    ],
)
def test_a_kind_is_one_however_it_is_spelt(export: Export, keys: dict[str, Any], said: str, grade: int) -> None:
    export.of_events(PLACED.format(said), "events.csv", **keys)
    assert export.load() == [f"1:0 2:{grade} 3:0 | view 5"]


def test_what_takes_back_is_known_however_it_is_spelt(export: Export) -> None:
    events = PLACED.format("purchase") + "ann,2,2026-03-02T10:05:00Z,Sent Back\n"
    export.of_events(events, "events.csv", undo={"sent_back": "purchase"})
    assert export.load() == ["1:0 2:0 3:0 | view 5"]
    assert export.report["taken_back"] == 1


@pytest.mark.parametrize(
    ("where", "said", "named"),
    [
        ("view", "View", "'View'"),
        ({"not": ["view", "click"]}, "VIEW", "'VIEW'"),
        ({"not": "yes"}, "Y", "'Y'"),
        ({"not": "yes"}, "Yes", None),
        (False, "N", None),
        ("view", "views", None),
    ],
)
def test_a_word_of_where_that_rows_have_in_another_spelling_is_named(
    export: Export, where: Any, said: str, named: str | None
) -> None:
    rows = "".join(f"L1,ann,2026-03-01T10:00:00Z,mug,{n},{n},{m}\n" for n, m in enumerate((said, "view", "no"), 1))
    export.files["shown.csv"] = "list,user,time,q,sku,rank,mark\n" + rows
    export.mapping["pairs"]["where"] = {"mark": where}
    export.load()
    found = [sentence for sentence in export.report["warnings"] if "another value" in sentence]
    assert len(found) == (named is not None)
    assert all(f"1 rows say {named}" in sentence for sentence in found)

"""Lists built from events: targets, negatives, queries, sizes, seeds."""

from __future__ import annotations

from collections import Counter

import pytest
from shop_tables import DAY, Shop

from reshelf.data.dataset_folder import RankingData
from reshelf.errors import InputError


def build(shop: Shop, **options: object) -> RankingData:
    shop.mapping.pop("lists", None)
    shop.mapping["build"] = {"candidates": 5, **options}
    return shop.load()


def test_negatives_are_never_the_shoppers_own_items(shop: Shop) -> None:
    shop.mapping["split"] = {"by": "leave_one_out"}
    data = build(shop)
    own = {f"u{u}": {e["sku"] for e in shop.tables["events"] if e["customer"] == f"u{u}"} for u in range(6)}
    train = {f"u{u}": [e["sku"] for e in shop.tables["events"] if e["customer"] == f"u{u}"][:-2] for u in range(6)}
    for split, lists in data.lists.items():
        for ranking in lists:
            positive = [c for c, label in zip(ranking.candidates, ranking.labels or ()) if label]
            assert len(positive) == 1
            known = set(train[ranking.user_id]) if split == "train" else own[ranking.user_id]
            assert not known & set(ranking.candidates) - set(positive)


def test_the_positive_is_anywhere_in_the_list(shop: Shop) -> None:
    shop.mapping["split"] = {"by": "leave_one_out"}
    places = {
        (r.labels or ()).index(max(r.labels or ()))
        for seed in range(4)
        for lists in build_seeded(shop, seed).lists.values()
        for r in lists
    }
    assert len(places) == 5, "a model could otherwise learn the place"


def build_seeded(shop: Shop, seed: int) -> RankingData:
    shop.mapping.pop("lists", None)
    shop.mapping["build"] = {"candidates": 5}
    return shop.load(seed=seed)


def test_the_same_seed_gives_the_same_lists(shop: Shop) -> None:
    shop.mapping["split"] = {"by": "leave_one_out"}
    first, second, other = build_seeded(shop, 3), build_seeded(shop, 3), build_seeded(shop, 4)
    assert first.lists == second.lists
    assert first.lists != other.lists


def test_same_query_negatives_come_before_those_of_similar_queries(shop: Shop) -> None:
    shop.mapping["split"] = {"by": "leave_one_out"}
    data = build(shop, query="category", negatives="same_query", candidates=4)
    for ranking in data.lists["test"]:
        assert ranking.query in ("mugs", "lamps")
        leaves = Counter(data.items[c].category[-1].lower() for c in ranking.candidates)
        assert leaves[ranking.query] >= 3, "two or three of six are the shopper's own; the rest is filled up"
    wide = build(shop, query="category", negatives="same_query", candidates=8)
    assert all(len(r.candidates) == 8 for r in wide.lists["test"])


def test_items_of_queries_may_come_from_a_table(shop: Shop) -> None:
    shop.tables["asked"] = [
        {"sku": item["sku"], "q": "left" if n < 6 else "right"} for n, item in enumerate(shop.tables["items"])
    ]
    shop.mapping["item_queries"] = {"file": "asked", "item_id": "sku", "query_id": "q"}
    shop.mapping["split"] = {"by": "leave_one_out"}
    data = build(shop, query="item_queries", negatives="same_query", candidates=3)
    for ranking in data.lists["train"]:
        side = {"left" if int(c) < 6 else "right" for c in ranking.candidates}
        assert side == {ranking.query}


def test_queries_may_be_what_was_typed(shop: Shop) -> None:
    for u in range(6):
        first = next(e for e in shop.tables["events"] if e["customer"] == f"u{u}" and e["what"] == "purchase")
        shop.tables["events"].append(
            {"customer": f"u{u}", "sku": None, "ts": first["ts"] - 60, "what": "search", "typed": f"need {u % 2}"}
        )
    shop.mapping["events"]["query"] = "typed"
    shop.mapping["split"] = {"by": "user", "valid": 0.0, "test": 0.0}
    data = build(shop, query="search", negatives="same_query", candidates=2, per_user=9, window_hours=1.0)
    asked = [r for r in data.lists["train"] if r.query]
    assert {r.query for r in asked} == {"need 0", "need 1"}
    for ranking in asked:
        assert all(e.kind != "search" for e in ranking.history), "the list's own search is not its history"
        assert ranking.time is not None
        assert int(ranking.time.timestamp()) % DAY == DAY - 60, "the list is shown when the search is made"


def test_a_run_of_events_on_one_item_is_one_choice(shop: Shop) -> None:
    start = 200 * DAY
    shop.tables["events"] = [
        {"customer": "u", "sku": "000", "ts": start - DAY, "what": "view"},
        {"customer": "u", "sku": "007", "ts": start, "what": "view"},
        {"customer": "u", "sku": "008", "ts": start + 60, "what": "view"},
        {"customer": "u", "sku": "007", "ts": start + 120, "what": "cart"},
        {"customer": "u", "sku": "007", "ts": start + 180, "what": "purchase"},
    ]
    shop.mapping["split"] = {"by": "user", "valid": 0.0, "test": 0.0}
    lists = build(shop, per_user=9).lists["train"]
    assert len(lists) == 1
    assert [e.item_id for e in lists[0].history] == ["000"]
    assert max(lists[0].labels or ()) == 3
    assert lists[0].candidates[(lists[0].labels or ()).index(3)] == "007"


def test_options_that_cannot_work_say_so(shop: Shop) -> None:
    shop.mapping["split"] = {"by": "leave_one_out"}
    with pytest.raises(InputError, match=r"same_query.*query is none"):
        build(shop, negatives="same_query")
    with pytest.raises(InputError, match="no train choice follows a search"):
        build(shop, query="search")
    for item in shop.tables["items"]:
        item["path"] = None
    with pytest.raises(InputError, match=r"items\.category"):
        build(shop, query="category")

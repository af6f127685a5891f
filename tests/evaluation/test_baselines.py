"""The systems without a model: what each orders by, and that none looks where it must not."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.best_possible import BestPossible
from reshelf.evaluation.baselines.bm25 import Bm25
from reshelf.evaluation.baselines.first_stage import FirstStage
from reshelf.evaluation.baselines.popularity import Popularity, count
from reshelf.evaluation.baselines.random_order import RandomOrder

ITEMS = {
    "shoe": Item(item_id="shoe", title="Trail running shoe", brand="Nord", attributes={"colour": "green"}),
    "boot": Item(item_id="boot", title="Leather boot", description="A boot that runs as light as a shoe."),
    "lamp": Item(item_id="lamp", title="Desk lamp", category=("Home", "Lighting")),
    "odd": Item(item_id="odd", title="!!!"),
    "zh": Item(item_id="zh", title="绿色跑步鞋"),
}


def one_list(**fields: object) -> RankingList:
    values = {"list_id": "l", "user_id": "u", "candidates": tuple(ITEMS)} | fields
    return RankingList.model_validate(values)


def click(item: str, user_time: int = 1, kind: EventKind = EventKind.CLICK) -> Event:
    return Event(kind=kind, item_id=item, time=datetime(2026, 1, user_time, tzinfo=UTC))


def scores_of(system: Bm25, **fields: object) -> dict[str, float]:
    ranking = one_list(**fields)
    (scores,) = system.scores(RankingData(ITEMS), [ranking])
    assert scores.dtype == np.float64
    return dict(zip(ranking.candidates, scores.tolist(), strict=True))


def test_bm25_prefers_items_that_share_the_querys_words() -> None:
    scores = scores_of(Bm25(), query="Running SHOE")
    assert scores["shoe"] > scores["boot"] > scores["lamp"] == scores["odd"] == 0


@pytest.mark.parametrize(("query", "item"), [("nord", "shoe"), ("green", "shoe"), ("lighting", "lamp"), ("跑鞋", "zh")])
def test_bm25_reads_brand_attributes_category_and_scripts_without_spaces(query: str, item: str) -> None:
    scores = scores_of(Bm25(), query=query)
    assert max(scores, key=scores.__getitem__) == item
    assert scores[item] > 0


def test_bm25_takes_recent_titles_for_an_empty_query() -> None:
    history = (click("shoe"), click("lamp", 2))
    scores = scores_of(Bm25(), history=history)
    assert min(scores["shoe"], scores["lamp"]) > 0
    assert scores_of(Bm25(recent=1), history=history)["shoe"] == 0


@pytest.mark.parametrize("query", ["", "  ", "!!!", "unheard of words"])
def test_bm25_is_zero_where_no_word_is_known(query: str) -> None:
    assert set(scores_of(Bm25(), query=query).values()) == {0.0}


def test_bm25_of_a_candidate_depends_neither_on_its_place_nor_on_the_other_candidates() -> None:
    whole = scores_of(Bm25(), query="shoe boot")
    part = scores_of(Bm25(), query="shoe boot", candidates=("lamp", "boot"))
    assert part == {"lamp": whole["lamp"], "boot": whole["boot"]}


def test_first_stage_hands_on_its_scores_only_where_they_agree_with_the_order() -> None:
    data = RankingData(ITEMS)
    agreeing = one_list(scores=(9.0, 7.0, 7.0, 1.0, 0.0))
    assert FirstStage().scores(data, [agreeing])[0].tolist() == [9, 7, 7, 1, 0]
    for other in (one_list(scores=(1.0, 7.0, 7.0, 1.0, 0.0)), one_list()):
        scores = FirstStage().scores(data, [agreeing, other])
        assert [s.tolist() for s in scores] == [[0, -1, -2, -3, -4]] * 2


def test_first_stage_scores_that_do_not_differ_leave_the_order_that_candidates_come_in() -> None:
    """It was shown in that order, and is not to be measured as a system that ranked nothing."""
    equal = one_list(scores=(1.0,) * len(ITEMS))
    assert FirstStage().scores(RankingData(ITEMS), [equal])[0].tolist() == [0, -1, -2, -3, -4]
    single = one_list(candidates=("shoe",), scores=(1.0,))
    assert FirstStage().scores(RankingData(ITEMS), [single])[0].tolist() == [1.0]


def test_random_order_depends_on_the_seed_and_the_list_and_on_nothing_else() -> None:
    data = RankingData(ITEMS)
    a, b = one_list(list_id="a"), one_list(list_id="b")
    both = RandomOrder(seed=1).scores(data, [a, b])
    alone = RandomOrder(seed=1).scores(data, [b])
    assert both[1].tolist() == alone[0].tolist()
    assert both[0].tolist() != both[1].tolist()
    assert RandomOrder(seed=2).scores(data, [b])[0].tolist() != alone[0].tolist()


def test_random_order_favours_no_place() -> None:
    lists = [one_list(list_id=str(i)) for i in range(2000)]
    winners = np.bincount([int(s.argmax()) for s in RandomOrder().scores(RankingData(ITEMS), lists)])
    assert winners.min() > 330  # 400 expected, standard deviation 18


def test_popularity_counts_a_shopper_once_with_the_strongest_act() -> None:
    first = one_list(list_id="1", history=(click("lamp"), click("lamp", 2)), labels=(1, 0, 0, 0, 0))
    again = one_list(list_id="2", history=first.history, labels=(3, 0, 0, 0, 0))
    other = one_list(list_id="3", user_id="v", history=(click("shoe"),), labels=(0, 2, 0, 0, 0))
    counts = count([first, again, other])
    assert {item: counts[item] for item in ITEMS} == {"shoe": 3 + 1, "boot": 2, "lamp": 1, "odd": 0, "zh": 0}


def test_popularity_weighs_kinds_of_events_and_leaves_searches_out() -> None:
    history = (
        Event(kind=EventKind.SEARCH, query="lamp"),
        click("shoe", kind=EventKind.PURCHASE),
        click("boot", kind=EventKind.CART),
        click("lamp", kind=EventKind.VIEW),
    )
    assert count([one_list(history=history)]) == {"shoe": 3, "boot": 2, "lamp": 1}


def test_popularity_never_sees_the_evaluated_lists_own_labels() -> None:
    train, test = one_list(list_id="a", labels=(0, 3, 0, 0, 0)), one_list(list_id="b", labels=(3, 0, 0, 0, 3))
    data = RankingData(ITEMS, {"train": [train], "test": [test]})
    assert Popularity().scores(data, [test])[0].tolist() == [0, 3, 0, 0, 0]


def test_popularity_prefers_the_lists_own_feature() -> None:
    ranking = one_list(features={"popularity": (5.0, 4.0, 3.0, 2.0, 1.0)})
    assert Popularity().scores(RankingData(ITEMS), [ranking])[0].tolist() == [5, 4, 3, 2, 1]


def test_popularity_without_a_source_says_what_is_missing() -> None:
    with pytest.raises(InputError, match=r"train\.parquet"):
        Popularity().scores(RankingData(ITEMS), [one_list()])


def test_best_possible_orders_by_utility_and_needs_it() -> None:
    data = RankingData(ITEMS)
    ranking = one_list(utility=(0.1, 0.5, 0.3, 0.0, 1.0))
    assert BestPossible().scores(data, [ranking])[0].tolist() == [0.1, 0.5, 0.3, 0.0, 1.0]
    with pytest.raises(InputError, match=r"'bare'.*utility"):
        BestPossible().scores(data, [ranking, one_list(list_id="bare")])

"""Collaborative filtering: what is counted, exactness, and that an event that arrives changes the next ranking."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines import item_cf, matrix_factorisation
from reshelf.evaluation.baselines.collaborative import Blend, behaviour, choose, interactions
from reshelf.evaluation.baselines.item_cf import ItemCf
from reshelf.evaluation.baselines.matrix_factorisation import MatrixFactorisation
from reshelf.evaluation.baselines.selection import SelectionMetric

ITEMS = 24


def quality(scores: Sequence[np.ndarray], lists: Sequence[RankingList]) -> float:
    return SelectionMetric([one.labels or () for one in lists])(scores)


Filter = ItemCf | MatrixFactorisation
ALONE: tuple[Callable[[], Filter], ...] = (
    lambda: ItemCf(search=(item_cf.ItemCfSetting(decay=0.5),), mixes=(0.0,)),
    lambda: MatrixFactorisation(factors=6, search=(matrix_factorisation.FactorSetting(decay=0.5),), mixes=(0.0,)),
)
IDS = ["item_cf", "matrix_factorisation"]


def did(item: int, kind: EventKind = EventKind.PURCHASE, value: float | None = None) -> Event:
    return Event(kind=kind, item_id=f"i{item}", value=value)


def asked(history: Sequence[Event], shown: Sequence[int], labels: Sequence[int] | None = None, user: str = "new",
          name: str = "l") -> RankingList:  # fmt: skip
    candidates = tuple(f"i{n}" for n in shown)
    return RankingList(
        list_id=name, user_id=user, history=tuple(history), candidates=candidates, labels=labels and tuple(labels)
    )


def shop() -> RankingData:
    """Three crowds: each takes items of its third alone. The catalogue says nothing about them."""
    rng = np.random.default_rng(3)
    lists: dict[str, list[RankingList]] = {"train": [], "valid": [], "test": []}
    for split, count in (("train", 90), ("valid", 20), ("test", 40)):
        for n in range(count):
            crowd = int(rng.integers(3))
            mine = 3 * rng.choice(ITEMS // 3, 5, replace=False) + crowd
            others = [item for item in rng.permutation(ITEMS).tolist() if item % 3 != crowd][:5]
            shown = rng.permutation([*others, mine[0]])
            labels = np.where(shown == mine[0], 3, 0).tolist()
            lists[split].append(asked([did(item) for item in mine[1:]], shown.tolist(), labels, f"{split}{n}"))
    return RankingData({f"i{n}": Item(item_id=f"i{n}", title="thing") for n in range(ITEMS)}, lists)


def fitted(make: Callable[[], Filter], data: RankingData) -> Filter:
    system = make()
    system.fit(data)
    return system


@pytest.mark.parametrize("make", ALONE, ids=IDS)
def test_items_of_the_same_crowd_come_first_for_new_shoppers(make: Callable[[], Filter]) -> None:
    data = shop()
    test = data.lists["test"]
    assert quality([np.zeros(6)] * len(test), test) < 0.75
    assert quality(fitted(make, data).scores(data, test), test) > 0.95


@pytest.mark.parametrize("make", ALONE, ids=IDS)
def test_an_event_that_arrives_changes_the_next_ranking(make: Callable[[], Filter]) -> None:
    data = shop()
    system = fitted(make, data)
    history = [did(3), did(6), did(9)]
    before = asked(history, [0, 1, 2])
    after = asked([*history, did(4), did(7), did(10)], [0, 1, 2])
    first, then = system.scores(data, [before, after])
    assert first.argmax() == 0
    assert then.argmax() == 1
    # The same events, the other way round: the latest count most.
    turned = system.scores(data, [asked([did(4), did(7), did(10), *history], [0, 1, 2])])[0]
    assert turned.argmax() == 0


@pytest.mark.parametrize("make", ALONE, ids=IDS)
def test_nothing_known_keeps_the_first_stage_order(make: Callable[[], Filter]) -> None:
    data = shop()
    system = fitted(make, data)
    items = data.items | {"new": Item(item_id="new", title="new")}
    strange = RankingList(
        list_id="s", user_id="n", history=(did(3), Event(kind=EventKind.CLICK, item_id="new")), candidates=("new", "i0")
    )
    lists = [asked([], [5, 4, 3]), asked([Event(kind=EventKind.SEARCH, query="x")], [2]), strange]
    scores = system.scores(RankingData(items), lists)
    assert [one.tolist() for one in scores[:2]] == [[0, 0, 0], [0]]
    assert scores[2][0] == 0 < scores[2][1]
    assert all(one.dtype == np.float64 for one in scores)
    assert system.scores(data, []) == []
    known = strange.model_copy(update={"history": (did(3),)})
    assert np.array_equal(system.scores(RankingData(items), [known])[0], scores[2]), "an unknown item ages no other"


@pytest.mark.parametrize("make", ALONE, ids=IDS)
def test_two_fits_are_equal_and_neither_labels_nor_company_change_a_score(make: Callable[[], Filter]) -> None:
    data = shop()
    test = data.lists["test"]
    once, again = (fitted(make, data).scores(data, test) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again))
    bare = [one.model_copy(update={"labels": None}) for one in test]
    alone = [fitted(make, data).scores(data, [one])[0] for one in bare[:2]]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(once, alone))


def test_a_strongest_thing_counts_once_for_a_shopper() -> None:
    view, rating = EventKind.VIEW, EventKind.RATING
    lists = [
        asked([did(0, view), did(1), did(0, view)], [2, 3], [1, 0], "a"),
        asked([did(0, view), did(1), did(2, EventKind.CART), did(1, view)], [0], [3], "a"),
        asked([did(3, rating, 2.0), did(4, rating, 4.0), Event(kind=EventKind.SEARCH, query="x")], [5], None, "b"),
    ]
    place = {f"i{n}": n for n in range(6)}
    expected = [[1, 1, 2 / 3, 0, 0, 0], [0, 0, 0, 0, 1, 0]]
    assert np.allclose(interactions(lists, place).toarray(), expected)
    # Ages count only what says something: 4 is youngest; the search and the bad rating are not there.
    assert np.allclose(behaviour(lists[2:], place, 0.5).toarray(), [[0, 0, 0, 0, 1, 0]])
    # 0 was viewed last and two before; 1 stands between.
    assert np.allclose(behaviour(lists[:1], place, 0.5).toarray(), [[1 / 3 + 1 / 12, 1 / 2, 0, 0, 0, 0]])


def random_shop(seed: int) -> tuple[RankingData, list[RankingList]]:
    rng = np.random.default_rng(seed)
    kinds = [EventKind.CLICK, EventKind.CART, EventKind.PURCHASE]

    def some(n: int) -> RankingList:
        history = [did(int(rng.integers(10)), kinds[rng.integers(3)]) for _ in range(rng.integers(6))]
        shown = rng.choice(10, 4, replace=False).tolist()
        return asked(history, shown, [3, *rng.integers(0, 2, 3).tolist()], f"u{rng.integers(8)}", f"l{n}")

    lists = {"train": [some(n) for n in range(20)], "valid": [some(n) for n in range(4)]}
    items = {f"i{n}": Item(item_id=f"i{n}", title="thing") for n in range(10)}
    return RankingData(items, lists), [some(n) for n in range(6)]


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from([0.0, 2.0]), st.booleans())
def test_item_scores_are_the_sum_over_pairs(seed: int, damping: float, itself: bool) -> None:
    data, lists = random_shop(seed)
    system = ItemCf(search=(item_cf.ItemCfSetting(0.7, damping, itself),), mixes=(0.0,))
    system.fit(data)
    place = {item: n for n, item in enumerate(data.items)}
    table = interactions(data.lists["train"], place).toarray()
    for one, scores in zip(lists, system.scores(data, lists)):
        for candidate, score in zip(one.candidates, scores):
            total = 0.0
            for age, event in enumerate(reversed(one.history)):
                a, b = table[:, place[event.item_id or ""]], table[:, place[candidate]]
                if (a @ a) * (b @ b) and (itself or event.item_id != candidate):
                    weight = {"click": 1, "cart": 2, "purchase": 3}[event.kind] / 3 * 0.7**age
                    total += weight * (a @ b) / np.sqrt((a @ a + damping) * (b @ b + damping))
            assert score * system._blend.spread == pytest.approx(total, abs=1e-9)


def test_many_lists_get_the_scores_of_each_alone() -> None:
    data, lists = random_shop(3)
    system = ItemCf(search=(item_cf.ItemCfSetting(),), mixes=(0.0,))
    system.fit(data)
    many = [lists[n % len(lists)] for n in range(2 * item_cf._BATCH + 5)]
    alone = system.scores(data, lists)
    together = system.scores(data, many)
    assert len(together) == len(many)
    assert all(np.allclose(one, alone[n % len(lists)]) for n, one in enumerate(together))


def test_item_scores_are_those_of_the_library_implicit() -> None:
    from implicit.nearest_neighbours import CosineRecommender

    data, lists = random_shop(1)
    system = ItemCf(search=(item_cf.ItemCfSetting(),), mixes=(0.0,))
    system.fit(data)
    place = {item: n for n, item in enumerate(data.items)}
    peer = CosineRecommender(K=len(place), num_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells about its own conversions
        peer.fit(interactions(data.lists["train"], place), show_progress=False)
    expected = (behaviour(lists, place, 0.8) @ peer.similarity).toarray()
    for row, (one, scores) in enumerate(zip(lists, system.scores(data, lists))):
        assert np.allclose(scores * system._blend.spread, expected[row, [place[item] for item in one.candidates]])


def test_a_shoppers_factors_solve_the_equation_of_the_paper() -> None:
    data, lists = random_shop(2)
    setting = matrix_factorisation.FactorSetting(regularisation=0.5, confidence=7.0, decay=0.6)
    system = MatrixFactorisation(factors=4, search=(setting,), mixes=(0.0,))
    system.fit(data)
    y = system._models[system._setting].item_factors.astype(np.float64)
    place = {item: n for n, item in enumerate(data.items)}
    for one, scores in zip(lists, system.scores(data, lists)):
        wanted = behaviour([one], place, 0.6).toarray()[0]
        c = 1 + 7.0 * wanted
        x = np.linalg.solve(y.T @ (c[:, None] * y) + 0.5 * np.eye(4), y.T @ (c * (wanted > 0)))
        expected = [y[place[item]] @ x for item in one.candidates]
        assert np.allclose(scores * system._blend.spread, expected, atol=1e-4)


@pytest.mark.parametrize("poor", [{"regularisation": 1e6}, {"confidence": 1e-4}])
def test_the_factors_are_those_of_the_chosen_setting(poor: dict[str, float]) -> None:
    data = shop()
    good = matrix_factorisation.FactorSetting(regularisation=0.5)
    search = (replace(good, **poor), good)
    system, only = (MatrixFactorisation(factors=6, search=one, mixes=(0.0,)) for one in (search, (good,)))
    system.fit(data)
    only.fit(data)
    assert system._setting == good
    for one, other in zip(system.scores(data, data.lists["test"]), only.scores(data, data.lists["test"])):
        assert np.array_equal(one, other)


def test_factors_bring_together_what_was_never_taken_together() -> None:
    """0 and 2 share no shopper, but 0 goes with 1 and 1 with 2; 3 and 4 live apart."""
    pairs = [(0, 1), (1, 2), (3, 4)] * 6
    train = [asked([did(a)], [b], [3], f"u{n}") for n, (a, b) in enumerate(pairs)]
    data = RankingData({f"i{n}": Item(item_id=f"i{n}", title="t") for n in range(5)}, {"train": train, "valid": train})
    setting = matrix_factorisation.FactorSetting(regularisation=0.1)
    system = MatrixFactorisation(factors=2, search=(setting,), mixes=(0.0,))
    system.fit(data)
    one = asked([did(0)], [4, 3, 2])
    assert system.scores(data, [one])[0].argmax() == 2
    neighbours = ItemCf(search=(item_cf.ItemCfSetting(),), mixes=(0.0,))
    neighbours.fit(data)
    assert neighbours.scores(data, [one])[0].tolist() == [0, 0, 0]


def test_the_search_takes_what_orders_validation_lists_best() -> None:
    lists = [asked([], [0, 1, 2], [0, 0, 3]), asked([], [3, 4, 5], [0, 3, 0])]
    good = [np.array([0.0, 0, 2]), np.array([0.0, 2, 0])]
    told = {"bad": [-one for one in good], "good": good, "good too": good}
    setting, blend, found = choose(told, lambda name: told[name], lists, (3.0, 0.0, 0.1))
    assert (setting, blend.mix, found["valid"]) == ("good", 0.0, 1.0)
    # Scores that say nothing: the first stage is better.
    lists = [asked([], [0, 1, 2], [3, 0, 0])]
    _, blend, found = choose(["noise"], lambda _: [np.array([0.0, 1, 2])], lists, (0.0, 0.3, 10.0))
    assert (blend.mix, found["valid"]) == (10.0, 1.0)
    assert np.allclose(Blend(2.0, 0.5)([np.array([4.0, 4, 8])])[0], [1.5, 2 - 0.5 * np.log2(3), 3])


def test_lists_of_one_candidate_are_measured_by_auc() -> None:
    lists = [asked([], [n], [label]) for n, label in enumerate((3, 0, 1, 0))]
    assert quality([np.array([x]) for x in (3.0, 2.0, 1.0, 0.0)], lists) == 0.75
    assert quality([np.zeros(1)] * 2, [lists[0], lists[2]]) == 0.5


@pytest.mark.parametrize("make", [ItemCf, MatrixFactorisation], ids=IDS)
def test_the_whole_search_runs_reports_and_tells_its_progress(make: type[Filter]) -> None:
    data, told = shop(), []
    system = replace(make(), valid_lists=7)
    system.fit(data, told.append)
    assert told == [7] * len(system.search)
    assert {"decay", "mix", "valid"} <= set(system.chosen)
    assert system.chosen["valid"] > 0.95
    assert quality(system.scores(data, data.lists["test"]), data.lists["test"]) > 0.9


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("make", ALONE, ids=IDS)
def test_a_split_that_says_nothing_is_a_mistake(make: Callable[[], Filter], split: str) -> None:
    data = shop()
    data.lists[split] = [one.model_copy(update={"labels": None}) for one in data.lists[split]]
    with pytest.raises(InputError, match=rf"{split}\.parquet"):
        make().fit(data)


def test_an_item_taken_by_nobody_has_no_likeness() -> None:
    data = shop()
    data.items["lonely"] = Item(item_id="lonely", title="t")
    one = RankingList(list_id="x", user_id="n", history=(did(3),), candidates=("lonely", "i0"))
    for make in ALONE:
        scores = fitted(make, data).scores(data, [one])[0]
        assert scores[0] == pytest.approx(0, abs=1e-6)
        assert scores[1] > 0
    assert sp.issparse(interactions(data.lists["train"], {item: n for n, item in enumerate(data.items)}))

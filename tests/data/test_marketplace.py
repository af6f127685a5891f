"""The simulated shop: repeatable, without leaks, and its stated utilities are what its shoppers really do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, Simulator, shoppers, simulate, simulate_folder
from reshelf.data.marketplace.catalogue import Shop, make_catalogue
from reshelf.data.marketplace.vocabulary import CATEGORIES
from reshelf.data.schema import RankingList
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import FIELDS, PromptConfig
from reshelf.prompts.levels import fit_levels

CONFIG = MarketplaceConfig(
    seed=3, items_per_category=12, train_lists=30, valid_lists=12, test_lists=12, lists_per_shopper=3, candidates=10
)


@pytest.fixture(scope="module")
def data() -> RankingData:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_catalogue(seed=0, items_per_category=20)


def every(data: RankingData) -> list[RankingList]:
    return [ranking for lists in data.lists.values() for ranking in lists]


class TestRepeatable:
    def test_the_same_seed_gives_the_same_shop(self, data: RankingData) -> None:
        again = simulate(CONFIG)
        assert again.items == data.items
        assert again.lists == data.lists

    def test_another_seed_gives_another_shop(self, data: RankingData) -> None:
        other = simulate(replace(CONFIG, seed=4))
        assert other.items != data.items
        assert [r.history for r in other.lists["train"]] != [r.history for r in data.lists["train"]]

    def test_a_longer_run_begins_like_a_shorter_one(self, data: RankingData) -> None:
        longer = simulate(replace(CONFIG, train_lists=50))
        assert longer.items == data.items
        assert longer.lists["train"][:30] == data.lists["train"]

    def test_a_shopper_depends_on_the_seed_and_the_number_alone(self) -> None:
        first, second = Simulator(CONFIG), Simulator(CONFIG)
        list(first.shopper(0))
        assert list(first.shopper(7)) == list(second.shopper(7))

    def test_the_folder_holds_the_same(self, data: RankingData, tmp_path: Path) -> None:
        simulate_folder(replace(CONFIG, out=tmp_path / "shop"))
        assert load_dataset_folder(tmp_path / "shop") == data


class TestNoLeaks:
    def test_no_shopper_is_in_two_splits(self, data: RankingData) -> None:
        shoppers_of = {split: {r.user_id for r in lists} for split, lists in data.lists.items()}
        assert [len(data.lists[s]) for s in ("train", "valid", "test")] == [30, 12, 12]
        assert not shoppers_of["train"] & shoppers_of["valid"]
        assert not shoppers_of["train"] & shoppers_of["test"]
        assert not shoppers_of["valid"] & shoppers_of["test"]
        assert len({r.list_id for r in every(data)}) == 54

    def test_history_is_strictly_before_the_list_and_in_order(self, data: RankingData) -> None:
        for ranking in every(data):
            times = [event.time for event in ranking.history]
            assert ranking.time is not None
            assert all(time is not None and time < ranking.time for time in times)
            assert times == sorted(times)  # type: ignore[type-var]

    def test_clicks_of_a_list_are_history_to_the_next_and_not_to_itself(self) -> None:
        carried = 0
        simulator = Simulator(CONFIG)
        for number in range(5):
            before: RankingList | None = None
            for ranking in simulator.shopper(number):
                if before is not None:
                    clicked = [i for i, label in zip(before.candidates, before.labels or ()) if label]
                    assert ranking.history[: len(before.history)] == before.history
                    assert [e.item_id for e in ranking.history[len(before.history) :]] == clicked
                    carried += len(clicked)
                before = ranking
        assert carried > 0

    def test_training_lists_have_a_click(self, data: RankingData) -> None:
        assert all(any(r.labels or ()) for r in data.lists["train"])

    def test_prompts_do_not_read_utility_or_labels(self, data: RankingData) -> None:
        tokenizer = train_tokenizer([item.title for item in data.items.values()], 400)
        config = PromptConfig(template="plain", fields=list(FIELDS), features=["first_stage"])
        builder = PromptBuilder(tokenizer, config, data.items, fit_levels(data.lists["train"], ["first_stage"]))
        for ranking in data.lists["test"][:4]:
            bare = ranking.model_copy(update={"utility": None, "labels": None, "positions": None})
            full, without = builder.build(ranking), builder.build(bare)
            assert full.prefix.tolist() == without.prefix.tolist()
            assert [i.tolist() for i in full.items] == [i.tolist() for i in without.items]


class TestCatalogue:
    def test_it_is_a_whole_shop(self, shop: Shop) -> None:
        items = list(shop.items.values())
        assert len({item.category for item in items}) == len(CATEGORIES) >= 20
        assert len(items) == 20 * len(CATEGORIES)
        for item in items:
            assert item.brand is not None
            assert item.price is not None
            assert item.price > 0
            assert item.rating is not None
            assert item.attributes["colour"] in item.title
            assert item.attributes["material"] in item.title
            assert item.brand in item.title

    def test_arrays_say_the_same_as_the_records(self, shop: Shop) -> None:
        for row, item in enumerate(shop.items.values()):
            assert shop.ids[row] == item.item_id
            assert item.price is not None
            assert shop.log_price[row] == pytest.approx(np.log(item.price))
            assert shop.level[row] == item.price_level
            assert shop.brands[shop.brand[row]] == item.brand
            assert shop.materials[shop.material[row]] == item.attributes["material"]

    def test_price_levels_are_fifths_of_a_category(self, shop: Shop) -> None:
        for category in range(len(CATEGORIES)):
            rows = np.flatnonzero(shop.category == category)
            order = rows[np.argsort(shop.log_price[rows], kind="stable")]
            assert (np.diff(shop.level[order]) >= 0).all()
            assert np.bincount(shop.level[rows])[1:].max() <= 8


def test_the_first_stage_is_in_the_order_of_its_scores(data: RankingData) -> None:
    asked = 0
    for ranking in every(data):
        assert ranking.scores is not None
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)
        assert len(ranking.candidates) == 10
        assert ranking.positions == tuple(range(1, 11))
        first = data.items[ranking.candidates[0]]
        asked += any(word in f"{first.title} {' '.join(first.category)}".lower() for word in ranking.query.split())
    assert asked == len(every(data)), "what comes first has a word of the query"


class TestChoices:
    def clicks_by_place(self, position_bias: float) -> np.ndarray:
        """Share of 4000 shoppers who click, by place, where all ten products are wished for alike."""
        rng = np.random.default_rng(0)
        wishes = np.full(10, 3.0)
        return np.mean([shoppers.behave(wishes, position_bias, rng) > 0 for _ in range(4000)], axis=0)

    def test_clicks_fall_with_the_place(self) -> None:
        share = self.clicks_by_place(0.7)
        expected = shoppers.sigmoid(np.array(1.0)) * np.arange(1, 11) ** -0.7
        np.testing.assert_allclose(share, expected, atol=0.03)

    def test_without_bias_they_do_not(self) -> None:
        np.testing.assert_allclose(self.clicks_by_place(0.0), shoppers.sigmoid(np.array(1.0)), atol=0.03)

    def test_the_bias_reaches_the_lists(self) -> None:
        """Mean place of clicks in whole simulations: with bias it is nearer the top than without."""
        places = {}
        for bias in (0.0, 1.5):
            made = simulate(replace(CONFIG, position_bias=bias, train_lists=0, valid_lists=0, test_lists=150))
            clicked = [np.flatnonzero(r.labels) for r in made.lists["test"]]
            places[bias] = float(np.concatenate(clicked).mean())
        assert places[1.5] < places[0.0] - 0.8

    def test_utility_is_the_share_that_buys(self) -> None:
        """Everything examined, 20,000 shoppers: three purchases in a thousand is the sampling error."""
        rng = np.random.default_rng(1)
        wishes = np.linspace(-2, 6, 9)
        bought = np.mean([shoppers.behave(wishes, 0.0, rng) == 3 for _ in range(20_000)], axis=0)
        utility = shoppers.expected_utility(wishes)
        assert (np.diff(utility) > 0).all()
        np.testing.assert_allclose(bought, utility, atol=0.012)

    def test_utilities_in_the_lists_are_probabilities(self, data: RankingData) -> None:
        values = np.array([r.utility for r in every(data)])
        assert values.shape == (54, 10)
        assert (values > 0).all()
        assert (values < 1).all()
        assert values.std() > 0.05

    def test_purchases_follow_the_utility_of_the_lists(self) -> None:
        """With everything examined, lists are bought from as often as their utilities add up to."""
        config = replace(CONFIG, position_bias=0.0, train_lists=0, valid_lists=0, test_lists=400)
        lists = simulate(config).lists["test"]
        expected = sum(sum(r.utility or ()) for r in lists)
        variance = sum(u * (1 - u) for r in lists for u in r.utility or ())
        bought = sum(label == 3 for r in lists for label in r.labels or ())
        assert abs(bought - expected) < 4 * variance**0.5
        assert expected > 100

    def test_dearer_neighbours_make_a_product_wished_for(self, shop: Shop) -> None:
        """The same product of the same shopper: a price that is low for this list helps."""
        taste = shoppers.draw_taste(shop, np.random.default_rng(2))
        rows = np.flatnonzero(shop.category == 0)
        rows = rows[np.argsort(shop.log_price[rows])]
        middle = rows[len(rows) // 2]
        nothing = np.zeros(6, dtype=bool)
        among_cheap = np.array([middle, *rows[:5]])
        among_dear = np.array([middle, *rows[-5:]])
        cheap, dear = (shoppers.wish_in_list(shop, taste, r, 0, nothing)[0] for r in (among_cheap, among_dear))
        assert dear > cheap
        gap = np.median(shop.log_price[among_dear]) - np.median(shop.log_price[among_cheap])
        assert dear - cheap == pytest.approx(0.6 * gap)

    def test_tastes_move_wishes(self, shop: Shop) -> None:
        taste = shoppers.draw_taste(shop, np.random.default_rng(3))
        rows = np.arange(len(shop.ids))
        wishes = shoppers.wish(shop, taste, rows)
        for liked in (taste.brands[shop.brand], taste.colours[shop.colour], taste.materials[shop.material]):
            assert wishes[liked].mean() > wishes[~liked].mean() + 0.5
        near = np.abs(shop.level - taste.level) < 1
        assert wishes[near].mean() > wishes[~near].mean()

    def test_another_category_than_the_querys_costs(self, shop: Shop) -> None:
        taste = shoppers.draw_taste(shop, np.random.default_rng(4))
        rows = np.flatnonzero(shop.category == 0)
        nothing = np.zeros(len(rows), dtype=bool)
        asked, other = (shoppers.wish_in_list(shop, taste, rows, category, nothing) for category in (0, 1))
        assert (asked.mean() - other.mean()) == pytest.approx(4.0, abs=0.3)
        wanted = shoppers.wish_in_list(shop, taste, rows, 0, ~nothing)
        np.testing.assert_allclose(wanted - asked, 1.2)

    def test_histories_show_tastes(self) -> None:
        """What a shopper bought before foretells what is wished for now; that is all a ranker can learn from."""
        simulator = Simulator(replace(CONFIG, lists_per_shopper=1, history_min=30, history_max=30))
        inside, outside = [], []
        for number in range(60):
            (ranking,) = simulator.shopper(number)
            seen = {simulator.items[e.item_id].attributes["colour"] for e in ranking.history[-10:] if e.item_id}
            for item_id, utility in zip(ranking.candidates, ranking.utility or ()):
                (inside if simulator.items[item_id].attributes["colour"] in seen else outside).append(utility)
        assert np.mean(inside) > 1.3 * np.mean(outside)

"""The simulated shop's ways of showing: promotion, random order, standing out and pictures; without them, as before."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, Simulator, shoppers, simulate, simulate_folder
from reshelf.data.marketplace.catalogue import Shop, make_catalogue
from reshelf.data.marketplace.pictures import PAPER, RGB, draw
from reshelf.data.marketplace.vocabulary import ENGLISH
from reshelf.data.schema import RankingList
from reshelf.errors import InputError

CONFIG = MarketplaceConfig(
    seed=3, items_per_category=12, train_lists=30, valid_lists=12, test_lists=12, lists_per_shopper=3, candidates=10
)
MADE_BEFORE = "ca57bf5d5e9991a95c1c14ee0edb3d12b8078412987f763765791d15065c10ba"
"""SHA-256 of what CONFIG gave before there was any of this: candidates, labels, places, queries and histories."""
LISTS_ONLY = replace(CONFIG, train_lists=0, valid_lists=0, test_lists=200, lists_per_shopper=1)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_catalogue(seed=0, items_per_category=20)


def lists_of(**changes: float) -> list[RankingList]:
    return simulate(replace(LISTS_ONLY, **changes)).lists["test"]  # type: ignore[arg-type]


def fingerprint(data: RankingData) -> str:
    found = hashlib.sha256()
    for ranking in (r for lists in data.lists.values() for r in lists):
        events = [e.item_id for e in ranking.history]
        found.update(repr((ranking.candidates, ranking.labels, ranking.positions, ranking.query, events)).encode())
    return found.hexdigest()


def test_by_default_the_data_is_what_it_always_was() -> None:
    data = simulate(CONFIG)
    assert fingerprint(data) == MADE_BEFORE
    assert all(item.image is None for item in data.items.values())


class TestPromotion:
    def test_candidates_stay_and_dear_products_are_shown_first(self) -> None:
        plain, promoted = lists_of(), lists_of(promotion=1.0)
        levels = {key: item.price_level or 0 for key, item in Simulator(LISTS_ONLY).items.items()}
        gaps = []
        for before, after in zip(plain, promoted):
            assert (after.candidates, after.scores, after.utility) == (before.candidates, before.scores, before.utility)
            assert sorted(after.positions or ()) == list(range(1, 11))
            level = np.array([levels[c] for c in after.candidates])
            expected = np.arange(10) / 9 - (level - 1) / 4
            shown = np.argsort(after.positions or ())
            assert (np.diff(expected[shown]) >= -1e-12).all()
            gaps.append(level[shown[:3]].mean() - level[shown[-3:]].mean())
        assert np.mean(gaps) > 1.0

    def test_clicks_follow_the_places_shown(self) -> None:
        """The same shoppers, hardly looking past place 1: what they click is what was shown first."""
        for ranking in lists_of(promotion=2.0, position_bias=20.0):
            clicked = np.flatnonzero(ranking.labels)
            assert all(ranking.positions[i] == 1 for i in clicked)  # type: ignore[index]

    def test_without_bias_places_change_nothing(self) -> None:
        plain, promoted = lists_of(position_bias=0.0), lists_of(position_bias=0.0, promotion=1.0)
        assert [r.labels for r in plain] == [r.labels for r in promoted]

    def test_choices_go_by_place(self) -> None:
        wishes, places = np.full(4, 3.0), np.array([3, 1, 4, 2])
        rng = np.random.default_rng(0)
        share = np.mean([shoppers.behave(wishes, 1.0, rng, places=places) > 0 for _ in range(4000)], axis=0)
        np.testing.assert_allclose(share, shoppers.sigmoid(np.array(1.0)) / places, atol=0.03)


class TestRandomised:
    def test_places_are_uniform(self) -> None:
        places = np.array([r.positions for r in lists_of(randomised=1.0)])
        assert (np.sort(places, axis=1) == np.arange(1, 11)).all()
        np.testing.assert_allclose(places.mean(axis=0), 5.5, atol=5 * (8.25 / 200) ** 0.5)
        assert len({tuple(row) for row in places}) == 200

    def test_the_file_names_those_that_were(self, tmp_path: Path) -> None:
        config = replace(CONFIG, out=tmp_path, test_lists=100, randomised=0.3)
        simulate_folder(config)
        named = (tmp_path / "randomised.txt").read_text(encoding="utf-8").split()
        data = load_dataset_folder(tmp_path)
        lists = [r for one in data.lists.values() for r in one]
        in_order = tuple(range(1, 11))
        assert named == [r.list_id for r in lists if r.positions != in_order]
        assert 0.15 < len(named) / len(lists) < 0.45

    def test_a_share_is_a_share(self) -> None:
        with pytest.raises(InputError, match=r"randomised is 1\.5; give a number from 0 to 1"):
            replace(CONFIG, randomised=1.5)


class TestStandingOut:
    @given(st.lists(st.integers(0, 499), min_size=2, max_size=12, unique=True))
    def test_against_the_formula(self, shop: Shop, rows: list[int]) -> None:
        n = len(rows)
        crowd = []
        for i in rows:
            others = [j for j in rows if j != i]
            same_colour = sum(shop.colour[j] == shop.colour[i] for j in others) / (n - 1)
            crowd.append(same_colour + sum(shop.brand[j] == shop.brand[i] for j in others) / (n - 1))
        found = shoppers.standing_out(shop, np.array(rows))
        if max(crowd) - min(crowd) < 1e-9:
            assert (found == 0).all()
        else:
            expected = -(np.array(crowd) - np.mean(crowd)) / np.std(crowd)
            np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_the_best_of_two_depends_on_the_rest(self) -> None:
        """One shopper, one query, two products; the company of either turns their order round."""
        shop = make_catalogue(seed=0, items_per_category=60)
        drawn = shoppers.draw_taste(shop, np.random.default_rng(2))
        taste = replace(drawn, brand_weight=0.0, colour_weight=0.0, material_weight=0.0)
        rows = np.flatnonzero(shop.category == 0)
        colour, brand = shop.colour[rows], shop.brand[rows]
        first = rows[0]
        second = next(r for r in rows if shop.colour[r] != shop.colour[first] and shop.brand[r] != shop.brand[first])

        def company(of: int, other: int) -> np.ndarray:
            alike = ((colour == shop.colour[of]) | (brand == shop.brand[of])) & (rows != of)
            foreign = (colour != shop.colour[other]) & (brand != shop.brand[other])
            return np.array([first, second, *rows[alike & foreign][:4]])

        def gap(list_rows: np.ndarray, context: float) -> float:
            asked = np.zeros(len(list_rows), dtype=bool)
            wishes = shoppers.wish_in_list(shop, taste, list_rows, 0, asked, context)
            return float(wishes[0] - wishes[1])

        crowded_first, crowded_second = company(first, second), company(second, first)
        assert len(crowded_first) > 3
        assert len(crowded_second) > 3
        assert gap(crowded_first, 0.0) == pytest.approx(gap(crowded_second, 0.0)), "only prices in common"
        assert gap(crowded_first, 5.0) < 0 < gap(crowded_second, 5.0)

    def test_it_reaches_utility_and_labels_of_the_lists(self) -> None:
        simulator = Simulator(replace(LISTS_ONLY, context=2.0, position_bias=0.0))
        row_of = {str(key): n for n, key in enumerate(simulator.shop.ids)}
        rises: list[float] = []
        bought: dict[bool, list[bool]] = {True: [], False: []}
        for with_it, without in zip(lists_of(context=2.0, position_bias=0.0), lists_of(position_bias=0.0)):
            rows = np.array([row_of[c] for c in with_it.candidates])
            assert with_it.candidates == without.candidates
            if len(set(simulator.shop.category[rows])) > 1:
                continue
            rare = shoppers.standing_out(simulator.shop, rows)
            higher = np.array(with_it.utility) - np.array(without.utility)
            assert (higher[rare > 1e-9] > 0).all()
            assert (higher[rare < -1e-9] < 0).all()
            rises += list(np.abs(higher))
            for i, label in enumerate(with_it.labels or ()):
                bought[bool(rare[i] > 0)].append(label > 0)
        assert np.mean(rises) > 0.05
        assert np.mean(bought[True]) > 2 * np.mean(bought[False])


class TestPictures:
    def test_the_folder_has_one_for_every_product(self, tmp_path: Path) -> None:
        simulate_folder(replace(CONFIG, out=tmp_path, items_per_category=6, train_lists=3, candidates=4, images=True))
        data = load_dataset_folder(tmp_path)
        for item in data.items.values():
            assert item.image == f"images/{item.item_id}.png"
            with Image.open(tmp_path / item.image) as picture:
                np.testing.assert_array_equal(np.asarray(picture), draw(item))
        assert len(list((tmp_path / "images").iterdir())) == len(data.items) == 150

    def test_they_change_nothing_else(self) -> None:
        with_images = simulate(replace(CONFIG, images=True))
        assert fingerprint(with_images) == MADE_BEFORE

    def test_a_chinese_shop_has_them_too(self) -> None:
        one = MarketplaceConfig(items_per_category=3)
        english, chinese = (list(Simulator(replace(one, language=words)).items.values()) for words in ("en", "zh"))
        assert [item.title for item in english] != [item.title for item in chinese]
        assert {draw(item).shape for item in chinese} == {draw(item).shape for item in english}

    def test_colour_shape_and_texture_are_the_products(self, shop: Shop) -> None:
        masks: dict[tuple[int, str], np.ndarray] = {}
        for item in shop.items.values():
            picture = draw(item)
            assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
            inside = (picture != PAPER).any(axis=-1)
            assert (picture == RGB[item.attributes["colour"]]).all(axis=-1).sum() > 30
            noun = item.description.split(" in ")[0].split(maxsplit=2)[2]  # type: ignore[union-attr]
            known = masks.setdefault((len(item.category), f"{item.category[-1]} {noun}"), inside)
            assert (known == inside).all(), "the outline is the category's and the noun's alone"
        assert len({mask.tobytes() for mask in masks.values()}) == len(masks) == 75

    def test_every_material_has_a_texture_of_its_own(self, shop: Shop) -> None:
        item = next(iter(shop.items.values()))
        pictures = {
            draw(item.model_copy(update={"attributes": {"colour": "red", "material": m}})).tobytes()
            for m in ENGLISH.materials
        }
        assert len(pictures) == len(ENGLISH.materials)

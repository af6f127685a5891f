"""Examination by place from clicks: near the simulator's truth in all three ways, or refused."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.cli import main
from reshelf.data.dataset_folder import RankingData
from reshelf.data.marketplace import MarketplaceConfig, simulate, simulate_folder
from reshelf.data.propensity.estimate import _groups, by_em, by_intervention, by_randomisation, chosen, rows_of
from reshelf.data.propensity.file import read_propensities
from reshelf.data.propensity.regression_em import candidate_features
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError

ETA = 0.7
TRUTH = np.arange(1, 11.0) ** -ETA
CONFIG = MarketplaceConfig(
    seed=5, items_per_category=30, train_lists=0, valid_lists=0, test_lists=4000, candidates=10, position_bias=ETA,
    history_min=3, history_max=6,
)  # fmt: skip


def clicks(places: Sequence[int], clicked: Sequence[int], name: str = "a", **more: object) -> RankingList:
    """A list of products p0, p1, … shown at `places`."""
    fields = {
        "list_id": name, "user_id": "u", "candidates": [f"p{i}" for i in range(len(places))], "labels": clicked,
        "positions": places, **more,
    }  # fmt: skip
    return RankingList.model_validate(fields)


def worst(found: np.ndarray) -> float:
    return float(np.abs(found - TRUTH).max())


def naive(lists: Sequence[RankingList]) -> np.ndarray:
    shown = rows_of(lists)
    rate = shown.clicks_at / shown.shown_at
    return np.asarray(rate / rate[0])


@pytest.fixture(scope="module")
def promoted() -> RankingData:
    return simulate(replace(CONFIG, promotion=1.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    simulate_folder(replace(CONFIG, out=folder, train_lists=300, test_lists=300, randomised=0.5))
    return folder


class TestNearTheTruth:
    """4000 lists; the standard error of a click rate against that of place 1 is 0.03 at place 2."""

    def test_by_randomisation(self) -> None:
        lists = simulate(replace(CONFIG, randomised=1.0)).lists["test"]
        found = by_randomisation(lists)
        assert worst(found) < 0.07
        assert np.abs(found - TRUTH).mean() < 0.025

    def test_by_em_where_the_shop_promotes(self, promoted: RankingData) -> None:
        lists = promoted.lists["test"]
        steps: list[float] = []
        found = by_em(lists, promoted.items, report=lambda step, change: steps.append(change))
        assert worst(found) < 0.06
        assert np.abs(found - TRUTH).mean() < 0.025
        assert worst(naive(lists)) > 0.1, "the shop hides what is liked, so that click rates alone mislead"
        assert steps[-1] < 0.004 < steps[0]
        assert (by_em(lists, promoted.items) == found).all()

    def test_by_intervention_where_the_shop_promotes(self, promoted: RankingData) -> None:
        found = by_intervention(promoted.lists["test"])
        assert worst(found) < 0.07
        assert np.abs(found - TRUTH).mean() < 0.03


def test_randomised_lists_by_hand() -> None:
    """ShownRows in every order alike; 6 clicks of 6 at place 1, 3 at 2, 3 at 3."""
    orders = list(itertools.permutations((1, 2, 3)))
    lists = [clicks(o, [int(p == 1 or p == 2 + n % 2) for p in o], str(n)) for n, o in enumerate(orders)]
    np.testing.assert_allclose(by_randomisation(lists, least=1), [1.0, 0.5, 0.5])


def test_intervention_by_hand() -> None:
    """Places 1 and 2 change hands 20 times; each product is clicked 4 times in 10 at place 1 and twice at 2."""
    lists = []
    for n in range(20):
        places = (1, 2) if n % 2 else (2, 1)
        lists.append(clicks(places, [int(n // 2 < (4 if p == 1 else 2)) for p in places], str(n)))
    np.testing.assert_allclose(by_intervention(lists, least=1), [1.0, 0.5], atol=1e-4)


def test_intervention_does_not_mix_up_looks_and_likes() -> None:
    """p0 is liked by all and mostly first, p1 by half and mostly second; place 2 is examined half as often."""
    lists = []
    for n in range(400):
        swapped = n % 10 == 0
        first, second = ("p1", "p0") if swapped else ("p0", "p1")
        turn = n // 10 if swapped else n - n // 10 - 1  # counts either kind from 0
        liked = {"p0": 1.0, "p1": 0.5}
        labels = [int(turn % 4 < 4 * liked[first]), int(turn % 4 < 4 * 0.5 * liked[second])]
        lists.append(
            RankingList(list_id=str(n), user_id="u", candidates=(first, second), labels=tuple(labels), positions=(1, 2))
        )
    assert naive(lists)[1] < 0.35
    np.testing.assert_allclose(by_intervention(lists, least=1), [1.0, 0.5], atol=1e-3)


class TestThinPlaces:
    @given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 60))
    def test_groups_have_enough_clicks_and_are_no_larger_than_needed(self, counts: list[int], least: int) -> None:
        group = _groups(np.array(counts), least)
        assert group[0] == 0
        assert set(np.diff(group)) <= {0, 1}
        sums = np.bincount(group, counts)
        assert (sums >= least).all() or len(sums) == 1
        for g in range(1, len(sums)):  # the first place of a group is what filled it
            assert sums[g] - counts[int(np.flatnonzero(group == g)[0])] < least

    def test_a_place_without_clicks_gets_the_value_of_its_group(self) -> None:
        lists = [clicks((1, 2, 3), (1, int(n % 2), 0), str(n), scores=None) for n in range(100)]
        shown = rows_of(lists, least=10)
        assert shown.group.tolist() == [0, 1, 1]

    @given(st.integers(0, 10_000))
    def test_values_are_probabilities_that_fall(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        lists = [clicks(rng.permutation(5) + 1, rng.integers(0, 2, 5), str(n)) for n in range(30)]
        for falling in (True, False):
            found = by_randomisation(lists, least=8, falling=falling)
            assert (found.shape, found.dtype, found[0]) == ((5,), np.float64, 1.0)
            assert ((found > 0) & (found <= 1)).all()
            assert not falling or (np.diff(found) <= 0).all()


class TestHonest:
    def test_lists_in_first_stage_order_are_not_random(self) -> None:
        lists = [clicks((1, 2, 3), (1, 0, 0), str(n)) for n in range(40)]
        with pytest.raises(InputError, match=r"40 lists were not shown in random order .* 1\.00"):
            by_randomisation(lists)

    def test_features_that_tell_the_place(self) -> None:
        rng = np.random.default_rng(0)
        items = {f"p{i}": Item(item_id=f"p{i}", title="thing") for i in range(4)}
        lists = []
        for n in range(200):
            places = rng.permutation(4) + 1
            lists.append(clicks(places, rng.integers(0, 2, 4), str(n), features={"rank": places.astype(float)}))
        with pytest.raises(InputError, match="tells its place"):
            by_em(lists, items)
        bare = [r.model_copy(update={"features": {}}) for r in lists]
        np.testing.assert_allclose(by_em(bare, items), 1.0, atol=0.25)

    def test_products_that_never_move(self) -> None:
        lists = [clicks((1, 2), (1, n % 2), str(n)) for n in range(40)]
        with pytest.raises(InputError, match="nothing that was shown at place 2 links it to place 1"):
            by_intervention(lists, least=1)

    def test_what_is_missing_is_named(self) -> None:
        good = clicks((1, 2), (1, 0))
        with pytest.raises(InputError, match="list a, field positions: missing"):
            rows_of([good.model_copy(update={"positions": None})])
        with pytest.raises(InputError, match="list a, field labels: missing"):
            rows_of([good.model_copy(update={"labels": None})])
        with pytest.raises(InputError, match="no click in 1 lists"):
            rows_of([good.model_copy(update={"labels": (0, 0)})])
        with pytest.raises(InputError, match="place 1 was never shown"):
            rows_of([good.model_copy(update={"positions": (2, 3)})])


def test_features_of_candidates_by_hand() -> None:
    items = {
        "p0": Item(item_id="p0", title="Red mug", brand="A", category=("K", "Mugs"), price=4, price_level=1),
        "p1": Item(item_id="p1", title="Pan", brand="B", category=("K", "Pan"), attributes={"colour": "red"}, rating=4),
    }
    past = tuple(Event(kind=EventKind.CLICK, item_id=i) for i in ("p0", "p0", "p1"))
    shown = clicks((2, 1), (1, 0), query="mug red", history=past, scores=(2.5, 1.5), features={"pop": (7.0, 8.0)})
    nan = np.nan
    expected = [  # price, level, rating, ratings | score, match | events, mean level | brand, leaf, colour | pop
        [4, 1, nan, nan, 2.5, 1.0, 3, 1, 2 / 3, 2 / 3, nan, 7],
        [nan, nan, 4, nan, 1.5, 0.0, 3, 1, 1 / 3, 1 / 3, 1 / 3, 8],
    ]
    np.testing.assert_allclose(candidate_features([shown], items), expected)


class TestCommand:
    def test_randomised_lists_by_the_simulators_file(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "propensities.json"
        flags = [f"--data={folder}", f"--out={out}", "--method=randomised"]
        assert main(["data", "propensities", *flags]) == 2
        assert "were not shown in random order" in capsys.readouterr().err
        assert not out.exists()
        assert main(["data", "propensities", *flags, f"--lists={folder / 'randomised.txt'}"]) == 0
        assert "click rate" in capsys.readouterr().out
        propensities = read_propensities(out)
        assert len(propensities) == 10
        assert propensities[-1] < 0.5

    def test_em_and_another_split(self, folder: Path, tmp_path: Path) -> None:
        for split in ("train", "test"):
            out = tmp_path / f"{split}.json"
            assert main(["data", "propensities", f"--data={folder}", f"--out={out}", f"--split={split}"]) == 0
            assert read_propensities(out)[-1] < 0.5

    def test_ids_that_are_not_there(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("nobody\n")
        with pytest.raises(InputError, match=r"ids\.txt names no list"):
            chosen([clicks((1,), (1,))], tmp_path / "ids.txt")
        with pytest.raises(InputError, match=r"none\.txt cannot be read"):
            chosen([clicks((1,), (1,))], tmp_path / "none.txt")

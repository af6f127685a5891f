"""Clicks weighted by inverse propensity without being asked, where positions are known and tell what is examined."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from reshelf.click_weights import weigh_clicks
from reshelf.data.dataset_folder import RankingData
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.propensity.estimate import by_em
from reshelf.data.propensity.file import read_propensities, write_propensities
from reshelf.finetune.config import FinetuneConfig


@pytest.fixture(scope="module")
def shop() -> RankingData:
    return simulate(MarketplaceConfig(seed=3, train_lists=120, valid_lists=10, test_lists=2))


def weighed(folder: Path, shop: RankingData) -> tuple[Path | None, str]:
    run = FinetuneConfig(data=folder / "data", out=folder / "model", propensities=Path("of another run"))
    console = Console(file=io.StringIO(), width=200)
    weigh_clicks(run, shop, console)
    return run.propensities, console.file.getvalue()  # type: ignore[attr-defined]


def test_propensities_are_estimated_once_from_the_training_lists(shop: RankingData, tmp_path: Path) -> None:
    path, said = weighed(tmp_path, shop)
    assert path == tmp_path / "propensities.json"
    found = read_propensities(path)
    assert found.tolist() == by_em(shop.lists["train"], shop.items).tolist()
    assert f"position 2 {found[1]:.0%}, position 5 {found[4]:.0%}, position 10 {found[9]:.0%}" in said
    write_propensities(path, [1.0, 0.25])
    path, said = weighed(tmp_path, shop)
    assert path is not None
    assert read_propensities(path).tolist() == [1.0, 0.25]
    assert said.endswith("others: position 2 25%.\n")


def test_lists_that_do_not_say_where_products_were_shown_count_as_they_are(shop: RankingData, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        some = [
            one.model_copy(update={"positions": None}) if n == 1 else one for n, one in enumerate(shop.lists[split])
        ]
        assert weighed(tmp_path, RankingData(shop.items, {**shop.lists, split: some})) == (None, "")


def test_positions_that_follow_from_a_number_count_as_they_are_and_that_is_said(
    shop: RankingData, tmp_path: Path
) -> None:
    known = [
        one.model_copy(update={"features": {"place": tuple(map(float, one.positions or ()))}})
        for one in shop.lists["train"]
    ]
    path, said = weighed(tmp_path, RankingData(shop.items, {**shop.lists, "train": known}))
    assert path is None
    assert said.startswith("Clicks count alike at every position: what is known of a candidate tells its place")
    assert not (tmp_path / "propensities.json").exists()

"""A small shop with known utilities, made here so that evaluation is tested without the simulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Event, EventKind, Item, RankingList

WORDS = ("red", "blue", "green", "shirt", "shoe", "lamp", "mug", "wool", "steel", "oak")
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_lists(split: str, n: int, seed: int, *, candidates: int = 12) -> list[RankingList]:
    """Lists over items i0 … i59 whose first stage is better than chance and worse than the utilities."""
    rng = np.random.default_rng(seed)
    lists = []
    for i in range(n):
        utility = rng.random(candidates)
        utility = utility[np.argsort(-(utility + rng.normal(0, 0.4, candidates)))]
        labels = np.where(rng.random(candidates) < utility * 0.4, rng.integers(1, 4, candidates), 0)
        history = [
            Event(kind=EventKind.CLICK, time=START + timedelta(hours=h), item_id=f"i{rng.integers(60)}")
            for h in range(5)
        ]
        lists.append(
            RankingList(
                list_id=f"{split}{i}",
                user_id=f"u{i // 2}",
                time=START + timedelta(days=2),
                query=str(rng.choice(WORDS)),
                history=tuple(history),
                candidates=tuple(f"i{c}" for c in rng.choice(60, candidates, replace=False)),
                labels=tuple(labels.tolist()),
                utility=tuple(utility.tolist()),
            )
        )
    return lists


def make_items() -> dict[str, Item]:
    rng = np.random.default_rng(5)
    return {
        f"i{i}": Item(
            item_id=f"i{i}", title=" ".join(rng.choice(WORDS, 3)), price=float(rng.integers(5, 99)), currency="EUR"
        )
        for i in range(60)
    }


@pytest.fixture(scope="session")
def shop() -> RankingData:
    return RankingData(make_items(), {"train": make_lists("train", 40, 1), "test": make_lists("test", 40, 2)})


@pytest.fixture(scope="session")
def shop_folder(shop: RankingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    save_dataset_folder(folder, shop)
    return folder

"""A reranker is promoted where it is surely better on what was served, and a worse one never."""

from __future__ import annotations

import numpy as np
import pytest

from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.schema import RankingList
from reshelf.evaluation.promotion import improvement

ETA = 0.7


@pytest.fixture(scope="module")
def served() -> list[RankingList]:
    """Shown in the order of a running model that is neither first-stage order nor the best."""
    config = MarketplaceConfig(
        seed=9, train_lists=300, valid_lists=0, test_lists=0, items_per_category=20, candidates=10, position_bias=ETA,
        promotion=0.5,
    )  # fmt: skip
    return simulate(config).lists["train"]


def scores(lists: list[RankingList], noise: float, seed: int) -> list[np.ndarray]:
    """Better than what was shown the less noise there is on the true utility."""
    rng = np.random.default_rng(seed)
    return [np.log(one.utility) + noise * rng.normal(size=len(one.candidates)) for one in lists]


def running(lists: list[RankingList]) -> list[np.ndarray]:
    return [-np.array(one.positions, dtype=float) for one in lists]


def test_the_better_model_is_promoted_and_a_worse_one_never(served: list[RankingList]) -> None:
    propensities = np.arange(1, 11) ** -ETA
    good = scores(served, 0.5, 0)
    better = improvement(good, running(served), served, propensities)
    assert better.is_sure
    assert better.new - better.running == pytest.approx(better.difference.mean)
    same = improvement(good, good, served, propensities)
    assert (same.is_sure, same.difference) == (False, (0.0, 0.0, 0.0))
    no_better = [
        improvement(scores(served, 3.0, n), scores(served, 3.0, n + 99), served, propensities) for n in range(20)
    ]
    assert sum(one.is_sure for one in no_better) <= 2
    for n in range(20):
        worse = improvement(scores(served, 6.0, n), scores(served, 3.0, n + 99), served, propensities)
        assert not worse.is_sure
    few = served[:40]
    assert not improvement(scores(few, 0.0, 0), running(few), few, propensities).is_sure

"""Claim: experiments find the better order with as many shoppers as they compute, and nothing between equal ones.

    make bench NAME=experiments        # a minute of one core

On the simulated shop, whose shoppers click by what they wish and by the place it stands at. 200 times, 60 shoppers with
two lists each see team drafts of an order with itself, and 300 shoppers one of two equal arms: counted is how often
p < 0.05. Then the order by true utility against first-stage order: a pilot says how many shoppers it takes, and 200
experiments of so many are counted the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import show, write_result
from reshelf.data.marketplace.shoppers import behave, expected_utility
from reshelf.data.marketplace.simulation import MarketplaceConfig, Simulator
from reshelf.evaluation.experiments.arms import compare_arms
from reshelf.evaluation.experiments.preference import preference
from reshelf.inference.interleaving import team_draft

CANDIDATES, BIAS = 10, 0.7
REPEATS = 200
EFFECTS = {"interleaved": 0.15, "A/B": 0.1}
"""What the pilots are asked to find: a share of shoppers beyond a half, a part of the control's rate."""
PILOTS = {"interleaved": 60, "A/B": 300}
_WISHES = np.linspace(-30, 30, 6001)


@dataclass(frozen=True)
class SimulatedLists:
    """Lists of the simulator, two per shopper, with what shoppers wish."""

    wishes: np.ndarray
    """float64 [lists, K], in first-stage order."""
    better: np.ndarray
    """int64 [lists, K], candidates best first."""

    @classmethod
    def simulated(cls) -> SimulatedLists:
        simulator = Simulator(MarketplaceConfig(seed=5, items_per_category=30, candidates=CANDIDATES))
        lists = [one for n in range(80) for one in simulator.shopper(n) if len(one.candidates) == CANDIDATES]
        utility = np.array([one.utility for one in lists])
        wishes = np.interp(np.log(utility), np.log(expected_utility(_WISHES)), _WISHES)
        return cls(wishes, np.argsort(-utility, axis=1, kind="stable"))

    @property
    def same(self) -> np.ndarray:
        """First-stage order, int64 [lists, K]."""
        return np.tile(np.arange(CANDIDATES), (len(self.wishes), 1))

    def clicks(self, lists: np.ndarray, orders: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Whether candidates are clicked where lists are shown in these orders, bool [len(lists), K]."""
        places = np.argsort(orders, axis=1) + 1
        grades = behave(self.wishes[lists].ravel(), BIAS, rng, 1.0, places.ravel())
        return (grades > 0).reshape(len(lists), CANDIDATES)


def net_votes(shop: SimulatedLists, second: np.ndarray, shoppers: int, seed: int) -> np.ndarray:
    """Of shoppers with two lists each, which are team drafts of first-stage order and `second`; int64 [shoppers]."""
    rng = np.random.default_rng(seed)
    lists = rng.integers(len(shop.wishes), size=2 * shoppers)
    drafts = [team_draft(range(CANDIDATES), second[n].tolist(), int(rng.integers(2**63))) for n in lists]
    clicked = shop.clicks(lists, np.array([draft.order for draft in drafts]), rng)
    teams = np.array([[draft.teams[k] for k in range(CANDIDATES)] for draft in drafts])
    won = np.sign((clicked & (teams == 1)).sum(axis=1) - (clicked & (teams == 0)).sum(axis=1))
    return won.reshape(shoppers, 2).sum(axis=1)


def arms_of(
    shop: SimulatedLists, orders: Sequence[np.ndarray], shoppers: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Successes, lists and arm of shoppers with one to fifteen lists each, int64 [shoppers]."""
    rng = np.random.default_rng(seed)
    count, arm = rng.integers(1, 16, size=shoppers), rng.integers(2, size=shoppers)
    owner = np.repeat(np.arange(shoppers), count)
    # A shopper asks the same again: their lists are not independent.
    lists = rng.integers(len(shop.wishes), size=shoppers)[owner]
    shown = np.where(arm[owner, None] == 1, orders[1][lists], orders[0][lists])
    success = shop.clicks(lists, shown, rng).any(axis=1)
    return np.bincount(owner, success).astype(int), count, arm


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    shop = SimulatedLists.simulated()
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for kind, p_of, needed in (("interleaved", interleaved_p, interleaved_shoppers), ("A/B", arms_p, arms_shoppers)):
        name, computed = kind.replace("/", "").lower(), needed(shop)
        for orders, second, shoppers in (
            ("equal", shop.same, PILOTS[kind]), ("better", shop.better, computed), ("equal", shop.same, computed),
        ):  # fmt: skip
            found = significant(partial(p_of, shop, second, shoppers))
            rows.append({"experiment": kind, "orders": orders, "shoppers": shoppers, "p < 0.05, share": found})
            key = f"{name}_{orders}" + ("_computed" if (orders, shoppers) == ("equal", computed) else "")
            ratios[key] = found
    show("experiments on the simulated shop", rows)
    Console().print(ratios)
    print(f"written to {write_result('experiments', rows, ratios, {'repeats': REPEATS, 'candidates': CANDIDATES})}")


def significant(p_of_seed: Callable[[int], float]) -> float:
    """Share of experiments that find a difference."""
    return float(np.mean([p_of_seed(seed) < 0.05 for seed in range(1, REPEATS + 1)]))


def interleaved_p(shop: SimulatedLists, second: np.ndarray, shoppers: int, seed: int) -> float:
    return preference(net_votes(shop, second, shoppers, seed), EFFECTS["interleaved"]).p


def interleaved_shoppers(shop: SimulatedLists) -> int:
    """As many as a pilot computes."""
    votes = net_votes(shop, shop.better, PILOTS["interleaved"], 0)
    return int(preference(votes, EFFECTS["interleaved"]).shoppers_needed or 0)


def arms_p(shop: SimulatedLists, second: np.ndarray, shoppers: int, seed: int) -> float:
    counts = arms_of(shop, (shop.same, second), shoppers, seed)
    return compare_arms(*counts, 0, EFFECTS["A/B"]).differences[0].p


def arms_shoppers(shop: SimulatedLists) -> int:
    """As many as a pilot computes, of both arms."""
    counts = arms_of(shop, (shop.same, shop.better), PILOTS["A/B"], 0)
    return 2 * int(compare_arms(*counts, 0, EFFECTS["A/B"]).shoppers_per_arm or 0)


if __name__ == "__main__":
    main()

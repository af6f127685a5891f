"""Team drafts: every pick is its side's best that is left, coins are fair, and rules hold for the draft."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.data.schema import Item
from reshelf.inference.interleaving import draft_propensities, team_draft
from reshelf.inference.ranking import interleave, rank
from reshelf.inference.rules import Boost, Limit, Pin, Rules
from reshelf.metrics.ordering import best_first

ORDERS = st.integers(1, 12).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n))))


@given(ORDERS, st.integers(0, 2**64 - 1))
def test_a_draft_is_picks_in_turns(orders: tuple[list[int], list[int]], seed: int) -> None:
    draft = team_draft(*orders, seed)
    assert sorted(draft.order) == sorted(orders[0])
    for place, pick in enumerate(draft.order):
        team = draft.teams[pick]
        left = [one for one in orders[team] if one not in draft.order[:place]]
        assert pick == left[0], "the best that its side has left"
        if place % 2:
            assert team != draft.teams[draft.order[place - 1]], "both pick in every round"
    assert draft == team_draft(*orders, seed)


def test_coins_are_fair_and_propensities_are_how_often_places_come_up() -> None:
    rng = np.random.default_rng(0)
    orders = rng.permutation(11).tolist(), rng.permutation(11).tolist()
    drafts = [team_draft(*orders, seed) for seed in range(2000)]
    first = Counter(draft.teams[draft.order[0]] for draft in drafts)
    assert abs(first[0] - 1000) < 4 * np.sqrt(500)
    found = draft_propensities(*orders, drafts[0].order)
    assert found[10:] == [None]
    for place, (pick, propensity) in enumerate(zip(drafts[0].order[:10], found[:10], strict=True)):
        seen = np.mean([draft.order[place] == pick for draft in drafts])
        assert seen == pytest.approx(propensity, abs=4 * 0.5 / np.sqrt(2000))


@given(ORDERS)
def test_propensities_of_a_place_add_up_to_one(orders: tuple[list[int], list[int]]) -> None:
    """Over all candidates that may stand there: each is last of some order that begins as the draft may."""
    n = len(orders[0])
    first_places = [draft_propensities(*orders, [pick])[0] for pick in range(n)]
    assert sum(filter(None, first_places)) == pytest.approx(1)
    order = team_draft(*orders, 3).order
    assert all(p and 0 < p <= 1 for p in draft_propensities(*orders, order[:10]))
    assert draft_propensities(orders[0], orders[0], orders[0])[:10] == [1.0] * min(n, 10)


def test_rules_hold_for_a_draft() -> None:
    items = [Item(item_id=f"p{n}", title="Mug", brand="Nord" if n % 2 else None) for n in range(12)]
    rng = np.random.default_rng(1)
    scores, others = rng.normal(size=12).astype(np.float32), rng.normal(size=12)
    rules = Rules(
        never=[{"item_id": ["p4"]}], pins=[Pin(item_id="p6", place=3)], limits=[Limit(per="brand", at_most=2, first=6)],
        boosts=[Boost(where={"item_id": ["p7"]}, by=50.0)],
    )  # fmt: skip
    for seed in range(20):
        mixed = interleave(rank(scores, None, 1.0, rules, items), others, seed, rules, items)
        order = mixed.ranked.order.tolist()
        assert sorted(order) == [k for k in range(12) if k != 4]
        assert order[0] == 7, "boosted above all others in both orders"
        assert order[2] == 6
        assert 6 not in mixed.teams, "nobody picked what is pinned"
        assert sum(items[k].brand == "Nord" for k in order[:6]) == 2
        assert mixed.ranked.arranged.notes[7] == ["boosted by 50"]
        assert mixed.orders is None
    plain = interleave(rank(scores), others, 0)
    assert plain.orders == (best_first(scores).tolist(), best_first(others).tolist())
    values = plain.ranked.values[plain.ranked.order]
    assert values.tolist() == sorted(scores.tolist(), reverse=True), "relevance falls from place to place"

"""Signals counted on how train lists ended, against counting again without a list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reshelf.data.signals.list_outcomes import OUTCOMES, Outcomes, Shown

ITEMS = 5
CATEGORIES = [("toys",), ("toys", "wood"), ("books",), (), ("books",)]


def lists_of(rows: list[tuple[int, list[tuple[int, bool]]]]) -> list[Shown]:
    return [
        Shown(f"u{user}", np.array([item for item, _ in seen]), np.array([liked for _, liked in seen]))
        for user, seen in rows
    ]


rows = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(st.tuples(st.integers(0, ITEMS - 1), st.booleans()), min_size=1, max_size=4, unique_by=lambda p: p[0]),
    ),
    min_size=1,
    max_size=8,
)


def slow(train: list[Shown], mean: float, items: np.ndarray, users: dict[str, float], one: Shown, leave: int) -> dict:
    """Shrunk mean residuals by loops over all lists but number `leave`."""
    kept = [other for n, other in enumerate(train) if n != leave]
    approval, leniency, shown = [], [], []
    for item in one.items.tolist():
        residuals = [
            float(liked) - mean - users[other.shopper]
            for other in kept
            for row, liked in zip(other.items.tolist(), other.wanted.tolist())
            if row == item
        ]
        approval.append(sum(residuals) / (len(residuals) + 10))
        shown.append(np.log1p(len(residuals)))
    residuals = [
        float(liked) - mean - items[row]
        for other in kept
        if other.shopper == one.shopper
        for row, liked in zip(other.items.tolist(), other.wanted.tolist())
    ]
    leniency = [sum(residuals) / (len(residuals) + 8)] * len(one.items)
    practice = [np.log1p(len(residuals))] * len(one.items)
    expected = [mean + a + b for a, b in zip(approval, leniency)]
    return {
        "approval": approval, "leniency": leniency, "expected": expected, "shown": shown, "practice": practice,
    }  # fmt: skip


@given(rows)
@settings(max_examples=40, deadline=None)
def test_a_train_list_counts_for_nothing_in_its_own_signals(rows: list[tuple[int, list[tuple[int, bool]]]]) -> None:
    train = lists_of(rows)
    outcomes = Outcomes(train, CATEGORIES)
    # The sums are taken at the last biases of the other side, as in any alternating fit.
    users = dict.fromkeys(outcomes._codes, 0.0)
    items = np.zeros(ITEMS)
    everything = [(one.shopper, row, float(liked)) for one in train for row, liked in zip(one.items, one.wanted)]
    mean = float(np.mean([liked for *_, liked in everything]))
    for _ in range(10):
        before = dict(users)
        for item in range(ITEMS):
            mine = [liked - mean - users[user] for user, row, liked in everything if row == item]
            items[item] = sum(mine) / (len(mine) + 10)
        for name in users:
            mine = [liked - mean - items[row] for user, row, liked in everything if user == name]
            users[name] = sum(mine) / (len(mine) + 8)
    assert outcomes.mean == pytest.approx(mean)
    np.testing.assert_allclose(outcomes._item_bias, items, atol=1e-12)
    for n, one in enumerate(train):
        found = outcomes.compute([one], own=True)[0]
        wanted = slow(train, mean, items, before, one, n)
        # Own rows of an item are taken out at the shopper's last bias, the others at the one before: a tiny difference.
        for name in ("leniency", "shown", "practice"):
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-9, err_msg=name)
        for name in ("approval", "expected"):
            np.testing.assert_allclose(found[name], wanted[name], atol=5e-3, err_msg=name)


def test_what_is_liked_by_all_is_above_what_nobody_likes_and_who_likes_all_above_who_likes_nothing() -> None:
    train = lists_of([(u, [(0, True), (2, False), (3, u % 2 == 0)]) for u in range(12)])
    outcomes = Outcomes(train, CATEGORIES)
    assert set(OUTCOMES) == set(outcomes.compute(train[:1], own=True)[0])
    new = outcomes.compute([Shown("stranger", np.array([0, 2, 4]), np.zeros(3, dtype=bool))], own=False)[0]
    assert new["approval"][0] > new["approval"][2] == 0 > new["approval"][1]
    assert (new["leniency"] == 0).all()
    assert (new["practice"] == 0).all()
    assert new["category_approval"][0] > 0 > new["category_approval"][2], "toys are liked, books are not"
    generous, strict = (outcomes.compute([Shown(u, np.array([4]), np.zeros(1, dtype=bool))], own=False)[0]
                        for u in ("u0", "u1"))  # fmt: skip
    assert generous["leniency"][0] > 0 > strict["leniency"][0]


def test_no_train_lists_and_no_categories_give_zeros() -> None:
    found = Outcomes([], [()] * 3).compute([Shown("u", np.arange(3), np.zeros(3, dtype=bool))], own=False)[0]
    assert all((values == 0).all() for values in found.values())

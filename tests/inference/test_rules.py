"""Rules and blending: what they promise holds for any list, and the rest stays in the order it was in."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reshelf.data.schema import Item
from reshelf.inference.ranking import rank
from reshelf.inference.rules import Boost, Limit, Pin, Rules
from reshelf.metrics.ordering import best_first
from reshelf.modeling.blend import blend

BRANDS = ("Nord", "Süd", "West")
SCORES = st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=25)


def made(brands: list[str | None], stock: list[bool]) -> list[Item]:
    return [
        Item(item_id=f"p{n}", title="Mug", brand=brand, attributes={"stock": "in" if there else "out"})
        for n, (brand, there) in enumerate(zip(brands, stock, strict=True))
    ]


@st.composite
def lists(draw: st.DrawFn) -> tuple[np.ndarray, list[Item]]:
    scores = np.array(draw(SCORES), dtype=np.float32)
    size = len(scores)
    brands = draw(st.lists(st.sampled_from([*BRANDS, None]), min_size=size, max_size=size))
    return scores, made(brands, draw(st.lists(st.booleans(), min_size=size, max_size=size)))


PINS = st.lists(st.builds(Pin, item_id=st.integers(0, 30).map("p{}".format), place=st.integers(1, 30)), max_size=4)
LIMITS = st.builds(Limit, per=st.just("brand"), at_most=st.integers(1, 3), first=st.integers(1, 12))
NEVER = {"attributes.stock": ["out"]}


@given(SCORES, st.floats(0, 1))
def test_a_blend_is_the_first_stage_at_0_and_the_model_at_1(scores: list[float], weight: float) -> None:
    values = np.array(scores, dtype=np.float32)
    assert best_first(blend(values, 0.0)).tolist() == list(range(len(values)))
    assert best_first(blend(values, 1.0)).tolist() == best_first(values).tolist()
    assert rank(values, personalization=1.0).order.tolist() == best_first(values).tolist()
    order = best_first(blend(values, weight))
    assert sorted(order.tolist()) == list(range(len(values)))
    for before, after in pairwise(order):  # what both agree on is never reversed
        assert not (after < before and values[after] > values[before])


@given(lists(), PINS, st.lists(LIMITS, max_size=1), st.booleans())
def test_rules_hold_and_the_rest_keeps_its_order(
    ranked: tuple[np.ndarray, list[Item]], pins: list[Pin], limits: list[Limit], never: bool
) -> None:
    values, items = ranked
    rules = Rules(never=[NEVER] if never else [], pins=pins, limits=limits)
    arranged = rules.arrange(values, items)
    order = arranged.order.tolist()
    allowed = [k for k, item in enumerate(items) if not never or item.attributes["stock"] == "in"]
    assert sorted(order) == allowed, "all that may be there, once, and nothing else"
    assert arranged.counts.get("removed", 0) == len(items) - len(allowed)
    first_pins = {pin.item_id: pin.place for pin in reversed(pins)}
    by_place = {place: name for name, place in first_pins.items()}
    held = {k for k in allowed if any("pinned" in note for note in arranged.notes.get(k, []))}
    for place, name in by_place.items():
        k = int(name[1:])
        if k in allowed and list(first_pins.values()).count(place) == 1:
            assert k in held
            assert order.index(k) == place - 1 or place > len(allowed) - len(held)
    free = [k for k in order if k not in held]
    expected = [k for k in best_first(values).tolist() if k in free]
    if not limits:
        assert free == expected
        return
    (limit,) = limits
    top = [items[k].brand for k in order[: limit.first] if items[k].brand is not None]
    over = {brand for brand, count in Counter(top).items() if count > limit.at_most}
    # Above the limit only by pins, or where everything further down is at its limit too.
    for brand in over:
        pinned = sum(items[k].brand == brand for k in order[: limit.first] if k in held)
        others = [k for k in free if k not in order[: limit.first] and items[k].brand not in {*over}]
        assert pinned > limit.at_most or not [
            k for k in others if items[k].brand is None or top.count(items[k].brand) < limit.at_most
        ]
    put_off = {k for k in free if any("put off" in note for note in arranged.notes.get(k, []))}
    assert [k for k in free if k not in put_off] == [k for k in expected if k not in put_off], "the order is stable"
    assert arranged.counts.get("limited", 0) == len(put_off)


@given(lists(), st.floats(-20, 20))
def test_a_boost_raises_and_buries_by_as_much_as_it_says(ranked: tuple[np.ndarray, list[Item]], by: float) -> None:
    values, items = ranked
    arranged = Rules(boosts=[Boost(where={"brand": ["Nord", "West"]}, by=by)]).arrange(values, items)
    raised = [float(v) + by * (item.brand in ("Nord", "West")) for v, item in zip(values, items, strict=True)]
    assert arranged.order.tolist() == best_first(raised).tolist()
    assert arranged.counts.get("boosted", 0) == sum(item.brand in ("Nord", "West") for item in items)


def test_a_pin_beyond_the_end_is_last_and_never_wins_over_a_pin() -> None:
    items = made(["Nord", "Nord", "Süd", None], [True, True, True, False])
    rules = Rules(
        never=[NEVER], pins=[Pin(item_id="p0", place=9), Pin(item_id="p3", place=1), Pin(item_id="p2", place=1)]
    )
    arranged = rules.arrange(np.array([4.0, 3.0, 2.0, 1.0]), items)
    assert arranged.order.tolist() == [2, 1, 0]
    assert arranged.counts == {"removed": 1, "pinned": 2}
    assert arranged.notes == {2: ["pinned to place 1"], 0: ["pinned to place 9"]}


def test_a_requests_rules_come_behind_its_tenants() -> None:
    tenant = Rules(never=[NEVER], pins=[Pin(item_id="p1", place=1)])
    request = Rules(only=[{"brand": ["Nord"]}], pins=[Pin(item_id="p2", place=1), Pin(item_id="p0", place=2)])
    both = request.after(tenant)
    assert (both.never, both.only) == ([NEVER], [{"brand": ["Nord"]}])
    assert [(pin.item_id, pin.place) for pin in both.pins] == [("p1", 1), ("p0", 2)]
    assert request.after(None) is request
    assert not Rules()


@pytest.mark.parametrize(
    "wrong",
    [
        {"never": [{"colour": ["red"]}]}, {"never": [{}]}, {"never": [{"brand": []}]}, {"limits": [{"per": "price"}]},
        {"boosts": [{"where": {"attributes.": ["x"]}, "by": 1}]},
        {"boosts": [{"where": {"brand": ["x"]}, "by": "nan"}]},
        {"pins": [{"item_id": "a", "place": 0}]}, {"pin": []},
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(wrong)

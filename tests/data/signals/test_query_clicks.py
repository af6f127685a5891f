"""What is counted of clicks per query, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from reshelf.data.signals.query_clicks import QueryClicks

DAY = 86_400_000_000
CLICKS = [("xbox", 0, 0), ("xbox", 0, 2), ("XBOX!", 1, 9), ("x box", 2, 9.5), ("xbox", 2, 10)]
"""Query, product, day. The list is asked for at day 10, so that the last one is not before it."""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("query_clicks", [math.log1p(0.98**2 + 0.98), math.log1p(1), 0]),
        ("query_share", [(0.98**2 + 0.98) / (0.98**2 + 0.98 + 1), 1 / (0.98**2 + 0.98 + 1), 0]),
        ("query_recent", [(0.8**2 + 0.8) / (0.8**2 + 0.8 + 1), 1 / (0.8**2 + 0.8 + 1), 0]),
        ("joined_clicks", [math.log1p(0.98**3 + 0.98**2), math.log1p(0.98), math.log1p(1)]),
        ("clicks_1d", [0, math.log1p(1), math.log1p(1)]),
        ("clicks_7d", [0, math.log1p(1), math.log1p(1)]),
        ("click_age", [math.log1p(8), math.log1p(1), math.log1p(0.5)]),
    ],
)
def test_each_signal_as_worked_out(name: str, wanted: list[float]) -> None:
    queries, items, days = zip(*CLICKS, strict=True)
    clicks = QueryClicks(pa.array(queries), np.array(items), np.array([int(day * DAY) for day in days]))
    [found] = clicks.compute(name, ["Xbox"], [np.array([0, 1, 2])], [10 * DAY], [None])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_day_and_a_week_end_where_they_should() -> None:
    clicks = QueryClicks(pa.array(["a", "a"]), np.array([0, 0]), np.array([3 * DAY, 9 * DAY - 1]))
    one = [np.array([0])]
    for name, count in (("clicks_1d", 0), ("clicks_7d", 2)):
        np.testing.assert_allclose(clicks.compute(name, ["a"], one, [10 * DAY], [None])[0], math.log1p(count))

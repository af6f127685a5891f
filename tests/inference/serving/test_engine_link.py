"""The queue in front of the engine: what it expects of the engine's pace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reshelf.inference.serving.engine_link import EngineLink, Pace, UnservedError


def test_pace_is_seconds_per_token_of_late() -> None:
    pace = Pace()
    assert pace.seconds(10_000) == 0.0, "nothing known, nothing expected"
    for _ in range(300):
        pace.learn(0.1, 1000)
    assert pace.seconds(0) == pytest.approx(0.1), "one list of usual size"
    assert pace.seconds(5000) == pytest.approx(0.6)
    for _ in range(200):
        pace.learn(0.2, 1000)
    assert pace.seconds(0) == pytest.approx(0.2, rel=0.01), "what was long ago no longer counts"


def test_lists_that_come_back_together_are_as_fast_as_all_of_them() -> None:
    burst, even = Pace(), Pace()
    for _ in range(200):
        for n in range(4):
            burst.learn(0.4 if n == 0 else 0.0, 1000)
            even.learn(0.1, 1000)
    assert burst.seconds(4000) == pytest.approx(even.seconds(4000), rel=0.1)


def test_an_engine_that_is_not_there_admits_nothing() -> None:
    async def ask() -> None:
        EngineLink(Path("nowhere"), "transformers", waiting=4, stuck_s=1.0).admit(10.0)

    with pytest.raises(UnservedError, match="engine_down"):
        asyncio.run(ask())

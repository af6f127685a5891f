"""How fast each tenant may go on: token buckets, here or in a Redis that servers share.

    rates = Rates()                                   # or Rates(store.evaluate), for all servers of one Redis
    wait_s = await rates.wait_s("shop-a", Rate.parse("50/second"))

A bucket holds what a tenant may do in one window at once and is refilled evenly (the generic cell rate algorithm, ITU-T
I.371). While Redis does not answer, each server counts for itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reshelf.inference.serving.history import StoreError

_RATE = re.compile(r"(\d{1,12}) ?(?:/|per) ?(second|minute|hour|day)")
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_APART_S = 1.0
"""Redis that did not answer is not asked again for so long."""
# The same as `_full_at` below, by Redis' own clock. A bucket is never emptier than empty: where another node with a
# clock that is behind has taken the place of the one that wrote, or a clock was set back, nobody waits for the
# difference.
_TAKE = """
local cost, interval, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local full_at = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now), now + window) + cost * interval
local wait = full_at - now - window
if wait > 0.000001 then return string.format('%.6f', wait) end
redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', math.ceil(1000 * (full_at - now)) + 1)
return '0'
"""
Evaluate = Callable[[str, Sequence[str], Sequence[Any]], Awaitable[Any]]
"""Runs a script in Redis: its text, its keys and its arguments. Raises StoreError."""


@dataclass(frozen=True)
class Rate:
    """So much in so many seconds."""

    count: int
    window_s: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Of `50/second`, minute, hour or day.

        Raises:
            ValueError: it is no rate.
        """
        found = _RATE.fullmatch(text)
        if found is None or int(found[1]) < 1:
            raise ValueError(f"{text!r} is no rate; give one such as 50/second")
        return cls(int(found[1]), _SECONDS[found[2]])


def duration_s(text: str) -> float:
    """Seconds of `400d`, or of s, m or h.

    Raises:
        ValueError: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise ValueError("no duration; give one such as 400d, 12h, 30m or 10s")
    return int(found[1]) * next(seconds for unit, seconds in _SECONDS.items() if unit.startswith(found[2]))


class Rates:
    """What every bucket holds.

    Args:
        evaluate: for buckets in Redis; None for this server's own.
    """

    def __init__(self, evaluate: Evaluate | None = None) -> None:
        self._evaluate = evaluate
        self._apart_until = 0.0
        self._full_at: dict[str, float] = {}
        """By bucket, when it is full again."""

    async def wait_s(self, bucket: str, rate: Rate, cost: int = 1) -> float:
        """0 where `cost` was taken out of a bucket; else seconds until there is enough in it, and nothing was taken.

        What costs more than a bucket holds is taken out of a full one.
        """
        cost, interval = min(cost, rate.count), rate.window_s / rate.count
        now = time.monotonic()
        if self._evaluate is not None and now >= self._apart_until:
            try:
                keys = [f"reshelf:rate:{{{bucket}}}"]
                return float(await self._evaluate(_TAKE, keys, [cost, interval, rate.window_s]))
            except StoreError:
                self._apart_until = time.monotonic() + _APART_S
        full_at = max(self._full_at.get(bucket, 0.0), now) + cost * interval
        if (wait := full_at - now - rate.window_s) > 1e-6:
            return wait
        self._full_at[bucket] = full_at
        return 0.0

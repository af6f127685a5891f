"""Numbers of a config that have a lowest or a highest value, and the sentence for one outside it.

    def __post_init__(self) -> None:
        check_numbers(self, {"learning_rate": POSITIVE, "lists_per_step": AT_LEAST_1}, inside="optimizer.")

A number that no range holds ends far from its flag: in another library's traceback, or in a loop without an end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reshelf.errors import InputError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; NaN and infinity are in none."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether `low` itself is outside."""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.low == -math.inf:
            return "a finite number"
        if self.high < math.inf:
            return f"a number from {self.low} to {self.high}"
        return f"a number {'above' if self.above else 'of at least'} {self.low}"


FINITE = Range(-math.inf)
AT_LEAST_0, AT_LEAST_1, POSITIVE, SHARE = Range(0), Range(1), Range(0, above=True), Range(0, 1)
SEED = Range(0, 2**32 - 1)
"""What every library takes that draws at random."""
LIST_LENGTH = Range(1, 10_000)
"""Products of a list, or events of a history, that anything is asked to score at once."""


def check_numbers(config: Any, ranges: Mapping[str, Range], inside: str = "") -> None:
    """Raise InputError for the first field whose number is outside its range; None is a number that was not given.

    Args:
        ranges: by the field's name.
        inside: what stands before that name on the command line: `optimizer.`
    """
    for name, allowed in ranges.items():
        value = getattr(config, name)
        if value is not None:
            check_number(f"{inside}{name}", value, allowed)


def check_number(name: str, value: Any, allowed: Range) -> None:
    """Raise InputError where a value, named so in the sentence, is no number or outside its range."""
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; give {allowed}")

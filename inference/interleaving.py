"""Two orders of one list as one, in which each product is one side's choice: team-draft interleaving.

    drafted = team_draft([0, 1, 2, 3], [2, 0, 3, 1], seed=7)
    drafted.order, drafted.teams[2]

As captains pick players (Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", CIKM
2008, algorithm 2): in every round a coin says who picks first, and each takes its best product that is left. A click
then counts for the side that picked the product. Both sides are seen by the same shopper in the same list, so far fewer
lists are needed than when each shopper sees one of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_KNOWN_PLACES = 10
"""Of which propensities are computed: with each two more they take twice as long."""


@dataclass(frozen=True)
class Draft:
    """An interleaved order."""

    order: list[int]
    """Candidates, best first."""
    teams: dict[int, int]
    """Of every candidate, which order picked it: 0 the first, 1 the second."""


def team_draft(first: Sequence[int], second: Sequence[int], seed: int) -> Draft:
    """Interleave two orders of the same candidates.

    Args:
        first: candidates, best first.
        second: the same candidates, in another order.
        seed: the same gives the same coins.

    Examples:
        >>> drafted = team_draft([0, 1, 2], [2, 1, 0], seed=0)
        >>> sorted(drafted.order), {drafted.teams[0], drafted.teams[2]}
        ([0, 1, 2], {0, 1})
    """
    coins = random.Random(seed)
    sides = iter(first), iter(second)
    order: list[int] = []
    teams: dict[int, int] = {}
    while len(order) < len(first):
        starts = coins.getrandbits(1)
        for team in (starts, 1 - starts):
            pick = next((one for one in sides[team] if one not in teams), None)
            if pick is not None:
                teams[pick] = team
                order.append(pick)
    return Draft(order, teams)


def draft_propensities(first: Sequence[int], second: Sequence[int], order: Sequence[int]) -> list[float | None]:
    """How likely each candidate of a draft was to stand where it does, over all coins.

    Args:
        first: candidates, best first.
        second: the same candidates.
        order: a draft of the two, or its beginning.

    Returns:
        One for each of `order`: exact for the first ten places, None after them.

    Examples:
        >>> draft_propensities([0, 1], [1, 0], [0, 1])
        [0.5, 0.5]
        >>> draft_propensities([0, 1, 2], [0, 2, 1], [0, 1, 2])
        [1.0, 0.5, 0.5]
    """
    places = min(_KNOWN_PLACES, len(order))
    found = [0.0] * places
    states: dict[frozenset[int], float] = {frozenset(): 1.0}  # what is picked already, however it came about
    for place in range(0, places, 2):
        after: dict[frozenset[int], float] = {}
        for picked, probability in states.items():
            for sides in ((first, second), (second, first)):
                taken = picked
                for n, side in enumerate(sides, place):
                    pick = next((one for one in side if one not in taken), None)
                    if pick is not None:
                        taken |= {pick}
                        if n < places and order[n] == pick:
                            found[n] += probability / 2
                after[taken] = after.get(taken, 0.0) + probability / 2
        states = after
    return [*found, *[None] * (len(order) - places)]

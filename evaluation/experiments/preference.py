"""Interleaving: which of two orders shoppers prefer, by whose picks they chose.

    found = preference(net, effect=0.05)
    found.share.mean, found.p, found.shoppers_needed

A list is won by the side whose picks had more of the outcome (Radlinski, Kurup and Joachims, CIKM 2008). Lists of one
shopper are not independent, so each shopper has one vote, for the side that won more of their lists, and the test is
the exact sign test over shoppers who have a vote.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from reshelf.evaluation.experiments.arms import POWER
from reshelf.metrics.bootstrap import CONFIDENCE, Interval


@dataclass(frozen=True)
class Preference:
    """Of shoppers, for the second of two sides."""

    first: int
    """Shoppers who prefer the first."""
    second: int
    """Shoppers who prefer the second."""
    share: Interval
    """Of those who prefer one, who prefer the second; Clopper and Pearson's interval."""
    p: float
    """Two-sided, of a share of one half."""
    voters_needed: int
    """Shoppers who prefer one, to find the effect with a power of 0.9 at p < 0.05."""
    shoppers_needed: int | None
    """All shoppers, if as many of them have a vote as so far; None where none has."""


def preference(net: npt.NDArray[np.integer], effect: float) -> Preference:
    """What shoppers prefer.

    Args:
        net: int [shoppers], lists that the second side won, less those that the first won.
        effect: smallest distance from one half, of the share who prefer the second, that is worth finding.

    Examples:
        >>> found = preference(np.array([1] * 60 + [-1] * 30 + [0] * 110), effect=0.1)
        >>> round(found.share.mean, 3), round(found.p, 4), found.voters_needed, found.shoppers_needed
        (0.667, 0.0021, 269, 598)
    """
    first, second = int((net < 0).sum()), int((net > 0).sum())
    voters = first + second
    needed = votes_needed(effect)
    if not voters:
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return Preference(0, 0, nothing, 1.0, needed, None)
    test = binomtest(second, voters)
    low, high = test.proportion_ci(CONFIDENCE)
    share = Interval(second / voters, float(low), float(high))
    shoppers = int(np.ceil(needed * len(net) / voters))
    return Preference(first, second, share, float(test.pvalue), needed, shoppers)


def votes_needed(effect: float) -> int:
    """Votes with which the sign test finds a share of `0.5 + effect` with a power of 0.9 at p < 0.05 (Fleiss, Levin and
    Paik, "Statistical methods for rates and proportions", 2003, section 2.4, with the correction for continuity)."""
    share = 0.5 + effect
    z = 0.5 * norm.isf((1 - CONFIDENCE) / 2) + norm.ppf(POWER) * np.sqrt(share * (1 - share))
    votes = (z / effect) ** 2
    return int(np.ceil(votes / 4 * (1 + np.sqrt(1 + 2 / (votes * effect))) ** 2))

"""What a mapping file says beside its tables: how lists are built, how they are divided, and what is counted for them.

build: {negatives: popularity, candidates: 50}
split: {by: time, valid: 0.1, test: 0.1}
signals: {names: [popularity, match]}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", strict=False)
SplitName = Literal["train", "valid", "test"]


@dataclass(kw_only=True)
class BuildConfig:
    """Lists made from events: a target the shopper chose among items they did not."""

    __pydantic_config__ = STRICT

    splits: list[SplitName] = field(default_factory=lambda: ["train", "valid", "test"])
    """Splits to build lists for."""
    query: Literal["none", "category", "item_queries", "search"] = "none"
    """Where a list's query comes from: leaf category of the target, a query the item belongs to, or the last search."""
    negatives: Literal["same_query", "uniform", "popularity"] = "uniform"
    """same_query: items of the query, filled up with items of the most similar queries. popularity: count ** 0.75."""
    candidates: int = 100
    """Candidates per list, the target among them."""
    train_candidates: int | None = None
    """The same for train lists; default `candidates`."""
    per_user: int = 1
    """At most this many lists per shopper and split, the latest first."""
    max_lists: dict[str, int] = field(default_factory=dict)
    """At most this many lists of a split, drawn at random: `{train: 20000}`."""
    min_history: int = 1
    """Shorter histories make no list (counted)."""
    min_grade: int = 1
    """Least grade of an event that can be a target."""
    rating_thresholds: list[float] = field(default_factory=lambda: [3.0, 4.0, 5.0])
    """Least stars for grade 1, 2 and 3, for rating events."""
    window_hours: float = 24.0
    """Events on one item with no longer pause than this are one choice; the list's time is its beginning."""


@dataclass(kw_only=True)
class SplitConfig:
    """How lists and events are divided."""

    __pydantic_config__ = STRICT

    by: Literal["column", "leave_one_out", "time", "user", "query"] = "time"
    """column: the tables say. leave_one_out: each shopper's last event is test, the one before valid. time: the latest
    lists are test (of built lists: the latest events). user or query: all lists of one user or query are in one
    split."""
    valid: float = 0.1
    """Share, for time, user and query."""
    test: float = 0.1
    """Share, for time, user and query."""
    valid_from: str | None = None
    """With by: time, the first moment of valid instead of a share: `2024-03-01`, or `2024-03-01T12:00:00+01:00`."""
    test_from: str | None = None
    """With by: time, the first moment of test instead of a share."""
    names: dict[str, SplitName] = field(default_factory=dict)
    """Raw split names, where they are not train, valid and test."""
    valid_from_train: float = 0.0
    """Share of train queries (or users) moved to valid, for sets that publish no valid split."""
    guard_users: bool = False
    """With by: time, also keep shoppers of test out of train and valid, and those of valid out of train (counted)."""


@dataclass(kw_only=True)
class SignalsConfig:
    """Numbers per candidate that a shop has anyway; counted on train only, a train list without its own shopper."""

    __pydantic_config__ = STRICT

    names: list[str] = field(default_factory=list)
    """What to write into the lists' features; see `data.signals`, `data.signals.query_clicks` and
    `data.signals.list_outcomes`."""
    first_stage: dict[str, float] = field(default_factory=dict)
    """Signal to weight: candidates are sorted by the weighted sum, which becomes the first-stage score.
    Empty: scores or the order as given."""
    history: int = 10
    """How many of the latest history items count."""
    decay: float = 0.8
    """Weight of one history item against the next younger one."""
    recent_days: float = 30.0
    """What the signal `recent` looks back on, where events have times."""

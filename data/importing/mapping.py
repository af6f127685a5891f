"""The mapping file: which column of which file is what. One YAML, one typed dataclass per table.

    items:
      file: products.csv
      item_id: sku
      title: name
      category: path
      category_separator: " > "
    events:
      file: events-*.parquet
      user_id: customer
      item_id: sku
      time: ts
      time_unit: ms
      kind_column: action
      kinds: {pv: view, add_to_cart: cart, order: purchase}
    pairs:
      - {file: shown.parquet, list_id: request, user_id: customer, time: ts, query: q, item_id: sku, position: rank}
    split: {by: time, valid: 0.1, test: 0.1}

`data.importing.mapping_file.load_mapping` reads it. File names are relative to `root`. A name may hold `*`, or be a
folder: all its files are then one table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict

from reshelf.data.schema import EventKind

_STRICT = ConfigDict(extra="forbid", strict=False)


@dataclass(kw_only=True)
class Table:
    """What every table has in common."""

    __pydantic_config__ = _STRICT

    file: str
    """File, folder or pattern, relative to the root. Endings: .parquet, .jsonl, .json, .csv, .tsv, .dat, .txt; all but
    .parquet also with .gz."""
    where: dict[str, Any] = field(default_factory=dict)
    """Only rows whose column has this value, or one of these values: `{locale: us}`. The others are counted."""
    separator: str | None = None
    """Column separator of a text table; default comma, or tab for .tsv. May be longer than one character (`::`)."""
    header: list[str] | None = None
    """Column names of a text table that has no header line."""
    encoding: str = "utf-8"
    """Of a text table."""


@dataclass(kw_only=True)
class ItemsTable(Table):
    """The catalogue. `item_id` and `title` are needed, every other column may stay unmapped."""

    item_id: str
    title: str
    category: str | None = None
    """Path from broad to fine: a list column, or text divided by `category_separator`."""
    category_separator: str = " > "
    brand: str | None = None
    price: str | None = None
    currency: str | None = None
    """Column with ISO 4217 codes."""
    currency_code: str | None = None
    """The one currency of all prices, where there is no column for it."""
    rating: str | None = None
    """Mean rating in stars, 0 to 5."""
    rating_count: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    """Attribute name to column."""
    attribute_text: str | None = None
    """A column that holds many attributes as text, such as `colour : red | size : L`."""
    attribute_separators: tuple[str, str] = ("|", ":")
    """Between attributes, and between a name and its value, in `attribute_text`."""
    description: str | None = None
    image: str | None = None
    duplicates: Literal["error", "first"] = "error"
    """What to do with an item id that comes again: stop, or keep the first (counted)."""
    max_price: float = 1e7
    """Prices above this are taken for mistakes: the price becomes missing (counted)."""


@dataclass(kw_only=True)
class EventsTable(Table):
    """What shoppers did: one row per event, or one row per shopper with a list column of item ids, oldest first."""

    user_id: str
    item_id: str
    time: str | None = None
    """Without it, `order` (or the order of the rows) says what came first."""
    time_unit: Literal["s", "ms", "us"] = "s"
    """Of numeric times since 1970 (UTC). Text is read as ISO 8601; timestamps are taken as they are."""
    order: str | None = None
    """A number that grows along one shopper's events, where there is no time."""
    kind: EventKind = EventKind.PURCHASE
    """The kind of every event, where there is no `kind_column`."""
    kind_column: str | None = None
    kinds: dict[str, EventKind] = field(default_factory=dict)
    """Raw value to kind. Values that are not listed and are no kind themselves are dropped (counted)."""
    query: str | None = None
    """Text of a search event."""
    value: str | None = None
    """Stars of a rating."""
    list_id: str | None = None
    """The result list the event happened on, where the log has it."""
    split: str | None = None
    """Column that already says train, valid or test."""
    max_per_day: int = 1000
    """Shoppers with more events on one day are taken for bots; all their events are dropped (counted)."""
    earliest: str = "1990-01-01"
    """Events before this day, or more than a day after the import, have an absurd time and are dropped (counted)."""


@dataclass(kw_only=True)
class QueriesTable(Table):
    """Query texts by id, where lists or pairs hold only the id."""

    query_id: str
    query: str


@dataclass(kw_only=True)
class ItemQueriesTable(Table):
    """Which items belong to which query: the pool that negatives of built lists come from."""

    item_id: str
    query_id: str


@dataclass(kw_only=True)
class Outcomes:
    """Fields that lists and pairs share."""

    __pydantic_config__ = _STRICT

    list_id: str | None = None
    user_id: str | None = None
    """Without it the list is by nobody in particular (judged search results)."""
    time: str | None = None
    time_unit: Literal["s", "ms", "us"] = "s"
    query: str | None = None
    query_id: str | None = None
    """Looked up in `queries`."""
    grades: dict[str, int] = field(default_factory=dict)
    """Raw label to grade: 0 none, 1 click, 2 cart, 3 purchase."""
    thresholds: list[float] = field(default_factory=list)
    """For numeric labels instead of `grades`: the least raw label of grade 1, of grade 2, of grade 3."""
    history: str | None = None
    """List column: item ids oldest first, or events (kind, time, item_id, query, value). Default: from `events`."""
    history_times: str | None = None
    """List column of times beside item ids in `history`."""
    split: str | None = None
    """Column that says train, valid or test."""
    in_split: Literal["train", "valid", "test"] | None = None
    """The split of the whole table, where there is no column."""


@dataclass(kw_only=True)
class ListsTable(Outcomes, Table):
    """One row per result list."""

    candidates: str
    """List column of item ids, in first-stage order."""
    labels: str | None = None
    """List column beside `candidates`; or use `target`."""
    target: str | None = None
    """The one item that was bought: grade 3, every other candidate 0."""
    missing_target: Literal["keep", "append", "drop"] = "keep"
    """A list without its target: keep it with no positive, put the target at the end, or drop it (all counted)."""
    max_candidates: int | None = None
    """Cut lists to this many from the top, before a missing target is appended."""
    scores: str | None = None
    positions: str | None = None
    list_separator: str = "|"
    """Between the values of a list column in a text table."""


@dataclass(kw_only=True)
class PairsTable(Outcomes, Table):
    """One row per (list, item). Rows of one list: the same `list_id`, or the same user, query and time."""

    item_id: str
    label: str | None = None
    """Without it, labels are what the shopper did afterwards, from `events` (an impression log)."""
    score: str | None = None
    position: str | None = None
    each_row: bool = False
    """Every row is a list of its own (like-or-not prediction)."""
    session_hours: float | None = None
    """Rows of one user with no longer pause than this are one list, seen as of its first row."""
    outcome_hours: float = 24.0
    """How long after an impression an event on the item counts, where events have no `list_id`."""


@dataclass(kw_only=True)
class BuildConfig:
    """Lists made from events: a target the shopper chose among items they did not."""

    __pydantic_config__ = _STRICT

    splits: list[Literal["train", "valid", "test"]] = field(default_factory=lambda: ["train", "valid", "test"])
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

    __pydantic_config__ = _STRICT

    by: Literal["column", "leave_one_out", "time", "user", "query"] = "time"
    """column: the tables say. leave_one_out: each shopper's last event is test, the one before valid. time: the
    latest events are test. user or query: all lists of one user or query are in one split."""
    valid: float = 0.1
    """Share, for time, user and query."""
    test: float = 0.1
    """Share, for time, user and query."""
    names: dict[str, Literal["train", "valid", "test"]] = field(default_factory=dict)
    """Raw split names, where they are not train, valid and test."""
    valid_from_train: float = 0.0
    """Share of train queries (or users) moved to valid, for sets that publish no valid split."""
    guard_users: bool = False
    """With by: time, also keep shoppers of test out of train and valid, and those of valid out of train (counted)."""


@dataclass(kw_only=True)
class SignalsConfig:
    """Numbers per candidate that a shop has anyway; counted on train only, a train list without its own shopper."""

    __pydantic_config__ = _STRICT

    names: list[str] = field(default_factory=list)
    """What to write into the lists' features; see `data.signals.SIGNALS`."""
    first_stage: dict[str, float] = field(default_factory=dict)
    """Signal to weight: candidates are sorted by the weighted sum, which becomes the first-stage score.
    Empty: scores or the order as given."""
    history: int = 10
    """How many of the latest history items count."""
    decay: float = 0.8
    """Weight of one history item against the next younger one."""
    recent_days: float = 30.0
    """What the signal `recent` looks back on, where events have times."""


@dataclass(kw_only=True)
class Mapping:
    """A whole mapping file."""

    __pydantic_config__ = _STRICT

    items: ItemsTable
    events: EventsTable | None = None
    queries: QueriesTable | None = None
    item_queries: ItemQueriesTable | None = None
    lists: list[ListsTable] = field(default_factory=list)
    pairs: list[PairsTable] = field(default_factory=list)
    build: BuildConfig | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    signals: SignalsConfig = field(default_factory=SignalsConfig)
    root: str = "."
    """Folder that file names start from."""
    max_history: int = 200
    """Events kept per list, the latest."""

"""The mapping file: which column of which table is what. One YAML file, one typed dataclass per table.

    items:
      file: products.csv
      item_id: sku
      title: name
    events:
      - {file: "clicks-*.parquet", user_id: [customer, session], item_id: sku, time: ts, kind_column: action,
         kinds: {pv: view, add_to_cart: cart}, undo: {remove_from_cart: cart}, list_id: request}
      - {file: orders.csv, user_id: customer, item_id: sku, time: created_at, timezone: Europe/Berlin, kind: purchase}
    pairs:
      - sql: |
          SELECT request, customer, ts, q, unnest(hits) AS sku, generate_subscripts(hits, 1) AS rank
          FROM read_json('searches/*.ndjson') WHERE NOT is_bot
        list_id: request
        user_id: customer
        time: ts
        query: q
        item_id: sku
        position: rank
    split: {by: time, valid: 0.1, test: 0.1}

Every table is either a `file` or a `sql`, both relative to `--root`:

- `file`: one file, a folder with all below it, or a pattern with `*`: .parquet, .csv, .tsv, .dat, .txt, .jsonl,
  .ndjson, .json (all but Parquet also .gz, .zst, .bz2). Text tables are read as text, so the id `007` stays `007`. A
  dotted path goes into objects and maps (`payload.user`), into text that is JSON, and in either into lists of objects,
  of which it is the list of parts (`hits.sku`). What a folder says (`day=2024-03-01`) is a column where the files have
  none of that name.
- `sql`: one DuckDB SELECT over `read_csv`, `read_json`, `read_parquet`, globs and Hive partitions below the root. It
  can read nothing else, and write nothing. Its columns are then mapped like those of a file; DuckDB's `filename` is
  the whole path. Leave types to the mapping: read CSV with `all_varchar = true`, and do not cast ids, times or
  numbers yourself.

Lists come from `pairs` (one row per product shown), `lists` (one row per list, with list columns), or `build` (made
from events). Their labels come from a column (`label`, `labels`, `target`) or, without one, from `events`: an event
that names a list (`events.list_id`) is an outcome of that list, any other one of the last list before it, up to
`window_hours`, that showed its product to its shopper. A list's history are the shopper's events strictly before its
time, never its own outcomes. An event of which only the day is known counts from the end of that day.

`data.importing.mapping_file.load_mapping` reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from reshelf.data.importing.rules import STRICT, BuildConfig, SignalsConfig, SplitConfig, SplitName
from reshelf.data.schema import EventKind

Columns = str | list[str]
"""One column, or several of which the first that is there (not null, not empty) counts."""
OnUnknown = Literal["drop", "error"]

UNDO = {
    **dict.fromkeys(("remove_from_cart", "remove_cart", "cart_remove", "product_removed"), EventKind.CART),
    **dict.fromkeys(
        (
            *("refund", "refunded", "return", "returned", "cancel", "cancelled", "canceled", "purchase_cancelled"),
            *("order_refunded", "order_returned", "order_cancelled", "order_canceled"),
        ),
        EventKind.PURCHASE,
    ),
}
"""What the common words for taking something back take back: in any case, with any signs between."""


@dataclass(kw_only=True)
class Table:
    """What every table has in common."""

    __pydantic_config__ = STRICT

    file: str | None = None
    """File, folder or pattern below the root."""
    sql: str | None = None
    """One DuckDB SELECT, instead of `file`."""
    where: dict[str, Any] = field(default_factory=dict)
    """Only rows whose column has this value: `{locale: us}`, one of these: `{locale: [us, uk]}`, is missing: `{bot:
    null}`, is not: `{kind: {not: view}}`, `{bot: {not: null}}`, or lies in a range: `{price: {from: 1, below: 100}}`,
    `{day: {after: 2024-01-31, to: 2024-03-01}}`, `{ts: ">=2024-03-01"}`. All columns must agree. Values are compared as
    text, words such as true, no and null in any case, ranges as numbers or times. The other rows are counted."""
    separator: str | None = None
    """Column separator of a text file. Default: tab for .tsv, else found in the first line (comma, semicolon, tab, |).
    May be up to four characters (`::`)."""
    quote: str | None = None
    """Quotation mark of a text file, "" for none. Default: `"`; none in tab-separated files."""
    header: list[str] | None = None
    """Column names of a text file that has no header line."""
    escape: str | None = None
    """What stands before a quotation mark inside quoted text. Default: another one; Spark writes a backslash."""
    skip_lines: int = 0
    """Lines of a text file above its header: `sep=;`, comments, the name of a report."""
    encoding: str = "utf-8"
    """Of a text or JSON file, as Python calls it: utf-8, utf-16, latin-1, gbk, shift_jis, …"""
    decimal: Literal[".", ","] | None = None
    """Decimal sign of numbers that are text. The other one, spaces and apostrophes divide thousands. Default: of prices
    what the column as a whole says, and `.` of all other numbers."""
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Of numeric times since 1970 (UTC). auto: by their size, each time for itself; 20231114 and 20231114221320 are
    dates. Text is read as ISO 8601, also with a space, `UTC` or an offset at the end."""
    time_format: str | None = None
    """Of times that are other text, as in strptime: `"%d.%m.%Y %H:%M"`."""
    timezone: str | None = None
    """What times without an offset are local to: `Europe/Berlin`. Default UTC, with a warning where other tables have
    times with an offset or since 1970."""


def id_columns(table: Table) -> set[str]:
    """The columns of a table that hold ids."""
    named = (
        getattr(table, name, None) for name in ("item_id", "user_id", "list_id", "event_id", "query_id", "candidates")
    )
    return {name for value in named if value for name in ([value] if isinstance(value, str) else value)}


@dataclass(kw_only=True)
class ItemsTable(Table):
    """The catalogue. `item_id` and `title` are needed, every other column may stay unmapped."""

    item_id: Columns
    """Of several columns the first that is there. An id made of several columns: `sql` with `concat_ws`."""
    title: str
    category: str | None = None
    """Path from broad to fine: a list column, or text divided by `category_separator`. Of a list of paths the first."""
    category_separator: str = " > "
    category_paths: str | None = None
    """Between paths, where text holds several: `, ` in `Clothing > Coats, Sale > Coats`. The first counts."""
    brand: str | None = None
    price: str | None = None
    valid_from: str | None = None
    """Since when a row's price holds, where an item is there once per price. The latest row is the item; a list sees
    the price of its own time (`RankingList.prices`)."""
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
    duplicates: Literal["error", "first", "last"] = "error"
    """What to do with an item id that comes again: stop, or keep the first or the last (counted)."""
    max_price: float = 1e7
    """Prices above this are taken for mistakes: the price becomes missing (counted)."""


@dataclass(kw_only=True)
class ParentsTable(Table):
    """SKU to product: ids of variants, wherever they stand in events, pairs, lists and histories, count as their
    parent's. Ids that are not in the table stay as they are."""

    item_id: str
    parent_id: str


@dataclass(kw_only=True)
class EventsTable(Table):
    """What shoppers did: one row per event, or one row per order or shopper with a list column of item ids, oldest
    first; list columns beside it (times, quantities) go along."""

    user_id: Columns
    """`[customer, session]`: the first that is there. Rows without any are dropped (counted)."""
    item_id: Columns
    """`[sku, lines.sku]`: the first that is there, a product or a list of them."""
    time: str | None = None
    """Without it, `order` (or the order of the rows) says what came first."""
    order: str | None = None
    """A number that grows along one shopper's events, where there is no time."""
    kind: EventKind = EventKind.PURCHASE
    """The kind of every event, where there is no `kind_column`."""
    kind_column: str | None = None
    kinds: dict[str, EventKind] = field(default_factory=dict)
    """Raw value to kind: `add_to_cart` is also `Add to Cart` and `addToCart`, where those are not listed. Values that
    are not listed and are no kind themselves are dropped (counted)."""
    undo: dict[str, EventKind] = field(default_factory=lambda: dict(UNDO))
    """Raw value to the kind that it takes back: `{remove_from_cart: cart, refund: purchase}`. The shopper's last such
    event on the item before it loses its grade, and neither stays in later histories. By default the common words."""
    grades: dict[str, int] = field(default_factory=dict)
    """Grade of an event by its kind or raw value, 0 to 3: `{view: 1}`, `{wishlist: 2}`. Default: click 1, cart 2,
    purchase 3, everything else 0, ratings by `build.rating_thresholds`."""
    query: str | None = None
    """Text of a search event, or of the search that led to a click."""
    value: str | None = None
    """Stars of a rating."""
    quantity: str | None = None
    """How many. Below zero the row takes back an event of its kind, as a return does in a list of sales, once all of it
    is back: of three with one returned two are kept, and were bought. With 0 it is dropped (counted)."""
    list_id: Columns | None = None
    """The result list the event happened on, where the log has it; may be null in some rows."""
    on_unknown: OnUnknown = "drop"
    """Events on items that the catalogue does not know: leave them out and count them; or stop."""
    session_id: str | None = None
    """Only for the report: a user id that many sessions share is named."""
    event_id: str | None = None
    """Rows that have the id, item and kind of an earlier one are the same event delivered again: dropped (counted)."""
    split: str | None = None
    """Column that already says train, valid or test."""
    max_per_day: int = 1000
    """Shoppers with more events on one day are taken for bots; all their events and lists are dropped (counted)."""
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
class ListColumns(Table):
    """What lists and pairs share."""

    list_id: Columns | None = None
    """Rows without one are dropped (counted). An id that is used again later, or for other results in a table of whole
    lists, names several lists (`data.importing.reused_ids`)."""
    list_id_scope: list[str] = field(default_factory=list)
    """What makes a list, where one `list_id` stands for several: keys of this table or columns, such as
    `[list_id, user_id, page]`. Default: the `list_id`, and rows of one list that disagree in shopper or query are an
    error."""
    user_id: Columns | None = None
    """Without it the list is by nobody in particular (judged search results). Rows without any are dropped
    (counted)."""
    time: str | None = None
    """A list's time is that of its earliest row."""
    query: str | None = None
    """As typed; what counts as the same query says `Mapping.query_key`."""
    query_id: str | None = None
    """Looked up in `queries`."""
    context: dict[str, str] = field(default_factory=dict)
    """What else is known of the moment, name to column: `{device: device_type}`. Rows of one list may not disagree."""
    grades: dict[str, int] = field(default_factory=dict)
    """Raw label to grade: 0 none, 1 click, 2 cart, 3 purchase. true and yes are 1 by default, false and no 0."""
    thresholds: list[float] = field(default_factory=list)
    """For numeric labels instead of `grades`: the least raw label of grade 1, of grade 2, of grade 3."""
    history: str | None = None
    """List column: item ids oldest first, or events (kind, time, item_id, query, value). Default: from `events`."""
    history_times: str | None = None
    """List column of times beside item ids in `history`."""
    split: str | None = None
    """Column that says train, valid or test."""
    in_split: SplitName | None = None
    """The split of the whole table, where there is no column."""
    on_unknown: OnUnknown = "drop"
    """Items (and query ids) that the catalogue does not know or that are null: leave them out and count them, the
    positions of the others stay; or stop. Lists of which nothing is left are dropped (counted)."""
    window_hours: float = 24.0
    """How long after a list an event on one of its items is its outcome, where labels come from events. Lists whose
    window is still open at the log's last event are dropped (counted). In a log too short to close any window, a list
    stays (with a warning) unless it is in the last tenth of the log and nothing came of it."""
    attribution: Literal["last_touch", "every_list"] = "last_touch"
    """Whose outcome an event is that names no list: of the last list before it that showed the item to its shopper, or
    of every one in the window."""
    skew_seconds: float = 5.0
    """An event on an item up to this long before the first list that showed it is that list's outcome: clocks
    differ."""
    first_position: Literal["auto", 0, 1] = "auto"
    """What the first place is called. auto: 0 where a 0 occurs (stated in the report), else 1."""


@dataclass(kw_only=True)
class ListsTable(ListColumns):
    """One row per result list. Without `labels` and `target`, labels are what the shopper did, from `events`."""

    candidates: str
    """List column of item ids, in first-stage order. Empty: no results; dropped (counted)."""
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
    """Between the values of a list column that is text; JSON lists are understood too."""


@dataclass(kw_only=True)
class PairsTable(ListColumns):
    """One row per (list, item). Rows of one list: the same `list_id`, or the same user, query and time."""

    item_id: Columns
    label: str | dict[str, int] | None = None
    """Column of grades (for a column of counts `thresholds: [1]`: 3 clicks are no purchase); or several yes-or-no
    columns and their grades: `{clicked: 1, bought: 3}`. Without it, labels are what the shopper did afterwards, from
    `events` (an impression log)."""
    score: str | None = None
    position: str | None = None
    price: str | None = None
    """The price that was shown."""
    each_row: bool = False
    """Every row is a list of its own (like-or-not prediction)."""
    session_hours: float | None = None
    """Rows of one user and query with no longer pause than this are one list, seen as of its first row."""


@dataclass(kw_only=True)
class Mapping:
    """A whole mapping file."""

    __pydantic_config__ = STRICT

    items: ItemsTable
    parents: ParentsTable | None = None
    events: list[EventsTable] = field(default_factory=list)
    """One table (a YAML mapping) or several (a YAML list)."""
    queries: QueriesTable | None = None
    item_queries: ItemQueriesTable | None = None
    lists: list[ListsTable] = field(default_factory=list)
    pairs: list[PairsTable] = field(default_factory=list)
    build: BuildConfig | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    signals: SignalsConfig = field(default_factory=SignalsConfig)
    about: str = ""
    """One line for `--mapping list`."""
    root: str = "."
    """Folder that file names start from, where there is no `--root`."""
    query_key: Literal["folded", "exact"] = "folded"
    """What is one query, for splits and joins: folded, the text in lower case with single spaces; exact, the text."""
    max_query: int = 1000
    """Characters of a query; a longer one is cut at the end (counted)."""
    max_history: int = 200
    """Events kept per list, the latest."""

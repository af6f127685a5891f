"""Item, Event and RankingList: the three records everything else is made of.

    from reshelf.data.schema import Item, Event, RankingList

Values are checked when a record is made (pydantic); `data.dataset_folder` reads and writes them as Parquet.
"""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

GRADES = {0: "none", 1: "click", 2: "cart", 3: "purchase"}
MAX_GRADE = max(GRADES)


DATES = (
    (19900101, 20991231, "%Y%m%d"),
    (199001010000, 209912312359, "%Y%m%d%H%M"),
    (19900101000000, 20991231235959, "%Y%m%d%H%M%S"),
)
"""Dates without separators, as numbers: from, to, format. The importer reads the same."""


def _separated(value: Any) -> Any:
    """A date without separators as a datetime: pydantic would take it for seconds since 1970
    (findings/pydantic_reads_a_date_without_hyphens_as_1970.sh)."""
    if isinstance(value, (int, str)) and str(value).isdecimal() and len(str(value)) <= 14:
        for first, last, form in DATES:
            if first <= int(value) <= last:
                with suppress(ValueError):  # no such day: a number of seconds or milliseconds after all
                    return datetime.strptime(str(value), form)
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("time is before the year 1 or after 9999 in UTC") from error


def _no_truth_value(value: Any) -> Any:
    """Python's True is 1, and pydantic takes it for that."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


def _nan_for_none(values: tuple[float | None, ...]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in values)


Id = Annotated[str, Field(min_length=1)]
Time = Annotated[datetime, BeforeValidator(_separated), AfterValidator(_utc)]
Whole = Annotated[int, BeforeValidator(_no_truth_value)]
Finite = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]
if TYPE_CHECKING:
    Numbers = tuple[float, ...]
else:
    Numbers = Annotated[tuple[Finite | None, ...], AfterValidator(_nan_for_none)]
    """Numbers by candidate: None is one that is not known, kept as NaN."""


class Record(BaseModel):
    """Frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(Record):
    """A product. Everything but `item_id` and `title` may be missing, and missing stays missing (None or empty).

    Examples:
        >>> boots = Item(item_id="p5", title="Hiking boots", price=89, currency="EUR", category=("Outdoor", "Shoes"))
        >>> boots.price_text, boots.rating
        ('89.00 EUR', None)
    """

    item_id: Id
    title: Annotated[str, Field(min_length=1)]
    category: tuple[str, ...] = ()
    """Path from the broadest level to the leaf."""
    brand: str | None = None
    price: Annotated[Finite, Field(ge=0)] | None = None
    currency: str | None = None
    """ISO 4217 code, e.g. EUR."""
    price_level: Annotated[Whole, Field(ge=1, le=5)] | None = None
    """Fifth of its leaf category the price falls in: 1 cheapest … 5 dearest (`data.price_levels.with_price_levels`)."""
    rating: Annotated[Finite, Field(ge=0, le=5)] | None = None
    """Mean rating in stars."""
    rating_count: Annotated[Whole, Field(ge=0)] | None = None
    attributes: dict[str, str] = {}
    description: str | None = None
    image: str | None = None
    """Path or URL."""

    @property
    def price_text(self) -> str:
        """`12.50 EUR`, or nothing where the price is missing."""
        return "" if self.price is None else f"{self.price:.2f} {self.currency or ''}".strip()


class EventKind(StrEnum):
    """What a shopper can do; a plain string stands for it wherever an event is made.

    Examples:
        >>> [kind.value for kind in EventKind]
        ['search', 'view', 'click', 'cart', 'purchase', 'rating']
    """

    SEARCH = "search"
    VIEW = "view"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"
    RATING = "rating"


OUTCOMES = (EventKind.CLICK, EventKind.CART, EventKind.PURCHASE)
"""What lists are shown for, and what a query led to."""


class Event(Record):
    """Something one shopper did: a search carries `query`, the others `item_id`; a rating carries `value` (stars).

    Examples:
        >>> Event(kind="purchase", item_id="p5", time="2026-03-01T10:00:00+01:00").time.isoformat()
        '2026-03-01T09:00:00+00:00'
    """

    kind: EventKind
    time: Time | None = None
    """UTC; None where a log keeps only the order."""
    item_id: Id | None = None
    query: str | None = None
    value: Finite | None = None

    @model_validator(mode="after")
    def _names_its_object(self) -> Event:
        if (self.kind == EventKind.SEARCH) != (self.item_id is None):
            raise ValueError("a search event needs a query and no item_id, any other event an item_id")
        return self


class RankingList(Record):
    """One result list as one shopper saw it (or would have seen it).

    `candidates` are item ids in first-stage order, best first. `labels`, `scores`, `positions`, `prices`, `utility`
    and every entry of `features` run parallel to them. `utility` is the simulator's true expected utility in [0, 1]: it
    is for evaluation only, and nothing in prompts, modeling or finetune reads it.

    Examples:
        >>> shown = RankingList(
        ...     list_id="l1", user_id="u1", query="boots", candidates=("p9", "p5", "p7"), labels=(0, 3, 0),
        ...     history=(Event(kind="search", query="rain jacket"), Event(kind="click", item_id="p2")),
        ... )
        >>> shown.only([1, 0]).labels
        (3, 0)
    """

    list_id: Id
    user_id: Id
    time: Time | None = None
    query: str = ""
    """Empty for a recommendation slot."""
    context: dict[str, str] = {}
    """What else is known of the moment, by name: device, season, page, instruction. A reranker reads those that it was
    trained with (`prompt.context`)."""
    history: tuple[Event, ...] = ()
    """Oldest first; every event strictly before `time`."""
    candidates: Annotated[tuple[Id, ...], Field(min_length=1)]
    labels: tuple[Annotated[int, Field(ge=0, le=MAX_GRADE)], ...] | None = None
    """0 none, 1 click, 2 cart, 3 purchase; None at serving time."""
    scores: Numbers | None = None
    """First-stage scores, higher is better; NaN where not known, in requests only."""
    positions: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """1-based places the candidates were shown at, where known."""
    features: dict[str, Numbers] = {}
    """Named numbers a shop has per candidate (popularity, text match, …); NaN where not known, in requests only."""
    prices: tuple[Annotated[Finite, Field(ge=0)] | None, ...] | None = None
    """Prices at the list's time, where they are not those of the catalogue; None for an unknown one."""
    utility: tuple[Finite, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RankingList:
        n = len(self.candidates)
        if len(set(self.candidates)) != n:
            seen: set[str] = set()
            twice = next(c for c in self.candidates if c in seen or seen.add(c))  # type: ignore[func-returns-value]
            raise ValueError(f"candidates: item {twice!r} is there twice")
        parallel = {"labels": self.labels, "scores": self.scores, "positions": self.positions, "prices": self.prices}
        parallel |= {"utility": self.utility}
        for name, values in (*parallel.items(), *self.features.items()):
            if values is not None and len(values) != n:
                raise ValueError(f"{name}: {len(values)} values for {n} candidates")
        if self.time is not None:
            for i, event in enumerate(self.history):
                if event.time is not None and event.time >= self.time:
                    raise ValueError(
                        f"history: event {i} at {event.time.isoformat()} is not before the list's time "
                        f"{self.time.isoformat()}"
                    )
        return self

    def only(self, rows: list[int]) -> RankingList:
        """The list with the candidates at `rows` alone, in that order."""

        def pick(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
            return None if values is None else tuple(values[row] for row in rows)

        parallel = ("candidates", "labels", "scores", "positions", "prices", "utility")
        changed = {name: pick(getattr(self, name)) for name in parallel}
        return self.model_copy(update={**changed, "features": {k: pick(v) for k, v in self.features.items()}})

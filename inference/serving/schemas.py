"""What requests and replies look like. The server and the client share them; nothing here needs torch.

    request = RerankRequest(query="rain jacket", documents=["Trail rain jacket", {"id": "p7", "title": "Mug"}])

`/v1/rerank` and `/v2/rerank` take what Cohere's and Jina's clients send, `/rerank` what Text Embeddings Inference does.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import datetime
from itertools import islice
from operator import not_
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from reshelf.data.schema import Event, Finite, Id, Item, Time, Whole
from reshelf.inference.explanation import Explanation
from reshelf.inference.rules import Rules
from reshelf.ranges import LIST_LENGTH

MOST = int(LIST_LENGTH.high)
"""Entries of any list of a request, whatever a server's own limits are."""
MOST_FIELDS = 200
"""Entries of an object of a request, and of lists and objects in it (a category's path, attributes)."""


_NAMED, _LONGEST_NAME = 20, 100


def _within_bounds(value: Any) -> Any:
    """Before validation, which would collect an error for each of a million wrong entries."""
    if isinstance(value, dict):
        for name, entries in (("", value), *value.items()):
            if isinstance(entries, dict | list | tuple) and len(entries) > MOST_FIELDS:
                raise ValueError(f"{name and name + ': '}{len(entries)} entries; send at most {MOST_FIELDS}")
    return value


def _few_features(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        raise ValueError(f"{len(value)} entries; send at most {MOST_FIELDS}")
    return value


def _in_order(value: Any) -> Any:
    """Pydantic makes a list of a set, in whatever order."""
    if isinstance(value, Set):
        raise ValueError(f"a {type(value).__name__} has no order; give a list")
    return value


Bounded = BeforeValidator(_within_bounds)
InOrder = BeforeValidator(_in_order)
SentItem = Annotated[Item, Bounded]
PastEvent = Annotated[Event, Bounded]
# `fail_fast`: one wrong entry is enough to refuse a list.
SentNumbers = Annotated[list[Finite | None], Field(max_length=MOST, fail_fast=True), InOrder]


def few_names(names: Iterable[str]) -> list[str]:
    """So many of them, and so long, as a reply may hold."""
    return [name[:_LONGEST_NAME] for name in islice(names, _NAMED)]


class Sent(BaseModel):
    """A request. Fields of other services that mean nothing here are let through and named in the reply."""

    model_config = ConfigDict(extra="allow")

    @property
    def ignored(self) -> list[str]:
        """Names of fields that mean nothing here: another service's, or misspelt."""
        return few_names(sorted(self.model_extra or ()))


_TEXT = {"type": "string", "minLength": 1, "pattern": r"\S"}
_OBJECT = {
    "type": "object",
    "properties": dict.fromkeys(("id", "item_id", "title", "text", "brand", "description"), _TEXT)
    | {"price": {"type": "number", "minimum": 0}, "category": {"type": "array", "items": {"type": "string"}}},
    "anyOf": [{"required": [name]} for name in ("title", "text", "id", "item_id")],
}


def _text_or_object(value: Any) -> Any:
    """Before pydantic, which would say it of the text alone."""
    if not isinstance(value, str | dict):
        raise ValueError("is neither a text nor an object")
    return value


Document = Annotated[
    str | dict[str, Any], BeforeValidator(_text_or_object), WithJsonSchema({"anyOf": [_TEXT, _OBJECT]})
]
"""A text; the id of an item of the catalogue; or an object with an item's fields. `serving.documents` reads them."""


class RerankRequest(Sent):
    """One list to put in order.

    Examples:
        >>> request = RerankRequest(query="wool coat", documents=["p17", {"id": "x", "title": "Bamboo mug"}])
        >>> request.top_n, request.deadline_ms
        (None, None)
    """

    model: str | None = None
    """The tenant's model; None or any name of another service is the tenant's own."""
    query: str = ""
    """What the shopper searches for; empty for a recommendation slot."""
    documents: Annotated[list[Document], Field(min_length=1, max_length=MOST, fail_fast=True), InOrder]
    """In first-stage order, best first: texts; ids of the catalogue's items; or objects with an item's fields."""
    rank_fields: Annotated[list[str], Field(max_length=MOST_FIELDS, fail_fast=True)] | None = None
    """Which fields of objects are read, as `title` and `text`; all where not given."""
    top_n: Annotated[Whole, Field(ge=1)] | None = None
    """Return only so many, best first."""
    return_documents: bool = False
    """Return the documents too."""
    context: Annotated[dict[str, str], Bounded] = {}
    """What else is known of the moment, as device, season, page: names that the model was trained with; others are
    refused."""
    instruction: str | None = None
    """What to go by, in words, for a model that was trained with instructions; the same as a `context` of that name."""
    user_id: Id | None = None
    """Rank for this shopper, whose events were sent to `/v1/events`."""
    history: Annotated[list[PastEvent], Field(max_length=MOST, fail_fast=True), InOrder] | None = None
    """Or for a shopper who did this, oldest first; in place of what is stored."""
    history_items: Annotated[list[SentItem], Field(max_length=MOST, fail_fast=True)] = []
    """Items that `history` names and that are neither documents nor in the catalogue."""
    scores: SentNumbers | None = None
    """First-stage scores, one per document, higher is better; null for one that is not known."""
    features: Annotated[dict[str, SentNumbers], BeforeValidator(_few_features)] = {}
    """Further numbers, one per document, that the model reads; null for one that is not known."""
    time: Time | None = None
    """When the list is shown, where that is not now: numbers are computed as of then, and events must be earlier."""
    impute: bool = False
    """Rank with medians in place of numbers that the model reads and that are missing; else the reply's `meta.missing`
    names them, or it is first-stage order."""
    personalization: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """How much of the order is the model's, from 0 (first-stage order) to 1; the tenant's where not given."""
    rules: Annotated[Rules, Bounded] | None = None
    """What a merchandiser asks for, after the tenant's own: only, never, pins, boosts, limits."""
    deadline_ms: Annotated[Finite, Field(gt=0)] | None = None
    """Milliseconds until the reply is due; past it, the reply is first-stage order."""
    strict: bool = False
    """Refuse what would otherwise be named in `meta.ignored`, `.unknown` and `.invalid`, or be cut off a query."""
    explain: bool = False
    """Say of the best few why they stand where they do; within the deadline, so give more of it."""

    @property
    def moment(self) -> dict[str, str]:
        """`context`, with the instruction in it."""
        return self.context | ({} if self.instruction is None else {"instruction": self.instruction})


HalfSurrogates = Annotated[int, Field(exclude_if=not_)]
"""Halves of surrogate pairs in the request, which U+FFFD stands for now; left out where there were none."""


class RankedDocument(BaseModel):
    """A document and where it stands."""

    index: int
    """Its place in the request, from 0."""
    relevance_score: float
    """In [0, 1], falling but for what rules moved: the sigmoid of `score`, or of what the first stage was blended into;
    in a fallback, 1 / (1 + index)."""
    score: float | None = None
    """Raw log-odds; None in a fallback."""
    probability: float | None = None
    """Calibrated, for people; None where the model was not calibrated, and in a fallback."""
    item_id: str | None = None
    document: dict[str, Any] | None = None
    explanation: Explanation | None = None
    """Why it stands here, where the request asked and it is one of the best few."""
    rules: Annotated[list[str], Field(exclude_if=not_)] = []
    """What rules did with it."""
    team: str | None = None
    """Of two interleaved arms, whose pick it is; None for what a rule pinned."""


class Assigned(BaseModel):
    """An experiment that the list is in."""

    name: str
    arm: str | None = None
    """None where two are interleaved: `results[].team` says whose pick each document is. Without teams the second
    arm's scores did not come in time, and the order is the first's."""


class Meta(BaseModel):
    """How the order came about."""

    engine: str
    """transformers or vllm; none while a tenant's own model is not ready."""
    fallback: str | None = None
    """Why this is first-stage order; None where it is the model's. deadline: the scores did not come in time;
    queue_full: they would not have, for too many lists wait; engine_down, engine_error: as it says; features_missing:
    the model reads the numbers that `missing` names; unreachable: a client with `first_stage` had no reply."""
    ms: dict[str, float] = {}
    """Milliseconds by stage, one after the other: read, history, signals, prompt, wait (for the engine), engine, order,
    explain; fallback, of what was given up; and total."""
    unexplained: str | None = None
    """Why there are no explanations though they were asked for: as `fallback`, which has none either."""
    prompt_tokens: int = 0
    """Distinct tokens of the list."""
    cached_tokens: int = 0
    """Those of them that the engine had read before."""
    truncated: dict[str, int] = {}
    """What did not fit the prompt's budgets: events, event_tokens, item_tokens, list_tokens, query_tokens,
    context_tokens; and query_characters of a query above the server's limit."""
    history: dict[str, Any] = {}
    """events read; unknown: events left out because nobody said what their item is; unavailable: the store failed;
    unreadable: stored events that are none."""
    missing: Annotated[list[str], Field(exclude_if=not_)] = []
    """What the model reads and is missing, of all candidates or of some: `scores` or `features.NAME`. A model
    finetuned with feature dropout ranks without; else, or where nearly all are missing, there is a fallback."""
    imputed: list[str] = []
    """With `impute`: what was missing. All candidates got the middle level; first-stage scores come from the order."""
    personalization: float | None = None
    """How much of the order is the model's; None for all of it."""
    experiment: Assigned | None = None
    rules: Annotated[dict[str, int], Field(exclude_if=not_)] = {}
    """Documents that rules removed, pinned, boosted, and limited (put off, for too many were alike)."""
    unknown: Annotated[list[str], Field(exclude_if=not_)] = []
    """Documents that are no ids of the catalogue though they look like ids: they were read as titles."""
    invalid: Annotated[dict[str, str], Field(exclude_if=not_)] = {}
    """Documents that are none, as `documents[3].price`, and why. They stand at the end, with a relevance of 0."""
    ignored: Annotated[list[str], Field(exclude_if=not_)] = []
    """What means nothing here, perhaps misspelt: fields of the request, `features.NAME` that no model of the tenant's
    reads, and fields of objects, as `documents[3].pric`, unless `rank_fields` says which are read."""
    warning: str | None = None
    """What finetuning found where this model does not beat first-stage order, and what to do."""
    half_surrogates: HalfSurrogates = 0
    api_version: dict[str, str] = {"version": "1"}
    billed_units: dict[str, float] = {"search_units": 1}


class RerankReply(BaseModel):
    """Documents, best first."""

    id: str
    """The request's id, also in the header X-Request-Id and in the log."""
    model: str
    results: list[RankedDocument]
    meta: Meta
    usage: dict[str, int] = {"total_tokens": 0}


class TeiRequest(Sent):
    """Text Embeddings Inference's request."""

    query: str
    texts: Annotated[list[str], Field(min_length=1, max_length=MOST, fail_fast=True)]
    raw_scores: bool = False
    return_text: bool = False
    user_id: Id | None = None
    """Not TEI's: rank for this shopper."""
    impute: bool = False
    """Not TEI's: as in `RerankRequest`."""


class TeiRank(BaseModel):
    """One of TEI's results."""

    index: int
    score: float
    text: str | None = None


class SentEvent(Event):
    """Something a shopper just did; `time` is now where it is not given.

    Examples:
        >>> SentEvent(user_id="u1", kind="click", item_id="p3", event_id="17").kind.value
        'click'
    """

    user_id: Id
    item: SentItem | None = None
    """The item, where the catalogue does not have it."""
    event_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The same id of the same shopper twice is one event, so that a request can be sent again."""


class StoredEvent(BaseModel):
    """An event as it is kept and, where the shop sent it, its item."""

    model_config = ConfigDict(frozen=True)

    event: Event
    item: Item | None = None


class EventsRequest(Sent):
    """Events, oldest first, of one shopper or of several."""

    events: Annotated[list[Annotated[SentEvent, Bounded]], Field(min_length=1, max_length=1000, fail_fast=True)]


class EventsReply(BaseModel):
    """Stored, and in the shopper's next ranking."""

    stored: int
    """Without those that had been sent before."""
    ignored: Annotated[list[str], Field(exclude_if=not_)] = []
    """Fields of the request that mean nothing here, perhaps misspelt."""
    half_surrogates: HalfSurrogates = 0


class ForgetReply(BaseModel):
    """Nothing is known of the shopper any more."""

    forgotten: int
    """Events that were removed."""


class ExportReply(BaseModel):
    """All that is kept of a shopper."""

    user_id: str
    events: list[StoredEvent]
    """Oldest first."""
    unreadable: int = 0
    """Stored events that cannot be read; they count for nothing."""


class HealthReply(BaseModel):
    """The server runs."""

    status: str = "ok"


class ReadyReply(BaseModel):
    """Whether lists are ranked, or come back in first-stage order."""

    ready: bool
    engine: str
    """transformers or vllm."""
    model: str
    warning: Annotated[str | None, Field(exclude_if=not_)] = None
    """What finetuning found where this model does not beat first-stage order, and what to do."""
    signals_until: Annotated[datetime | None, Field(exclude_if=not_)] = None
    """Time of the last event that the model's signals count, where it reads signals."""
    draining: Annotated[bool, Field(exclude_if=not_)] = False
    """The server is about to end, and takes no new work soon."""
    tenants: Annotated[str, Field(exclude_if=not_)] = ""
    """Why the tenants file as it is now cannot be used; the keys of before go on working."""


class Refusal(BaseModel):
    """Why a request was not served."""

    message: str
    field: str | None = None
    """Where in the request, e.g. documents[3].price."""
    request_id: str

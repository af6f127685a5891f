"""User Behavior Insights 1.3, as OpenSearch's and Solr's clients record it, as events of ours.

    events, skipped = events_of_ubi(body, service.catalogue, most=20_000)

UBI (https://o19s.github.io/ubi) says what a shopper searched for (`queries`) and did (`events`), with action names of
the shop's choosing. Those of the specification that say something of a product become events; whatever else pages
record (scrolling, impressions, leaving) is passed over and counted, for it comes in the same batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from hashlib import blake2b
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from reshelf.data.schema import EventKind, Time
from reshelf.inference.serving.schemas import Sent, SentEvent

_KINDS = {
    "click": EventKind.CLICK, "click_through": EventKind.CLICK, "view": EventKind.VIEW, "watch": EventKind.VIEW,
    "add_to_cart": EventKind.CART, "purchase": EventKind.PURCHASE,
}  # fmt: skip
_NAMED, _LONGEST = 20, 100
UbiId = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class _Ubi(BaseModel):
    """Fields of ours; UBI lets applications add any others."""

    model_config = ConfigDict(extra="ignore")


class UbiObject(_Ubi):
    object_id: UbiId | None = None


class UbiAttributes(_Ubi):
    object: UbiObject | None = None


class UbiQuery(_Ubi):
    """What a shopper searched for."""

    user_query: str = ""
    query_id: UbiId | None = None
    client_id: UbiId | None = None
    timestamp: Time | None = None


class UbiEvent(_Ubi):
    """What a shopper did."""

    action_name: str
    timestamp: Time
    query_id: UbiId | None = None
    client_id: UbiId | None = None
    event_attributes: UbiAttributes | None = None


class UbiRequest(Sent):
    """A batch as a UBI client or a pipeline collected it."""

    queries: Annotated[list[UbiQuery], Field(default_factory=list, max_length=1000, fail_fast=True)]
    events: Annotated[list[UbiEvent], Field(default_factory=list, max_length=1000, fail_fast=True)]


class UbiReply(BaseModel):
    """Stored, and in the shoppers' next rankings."""

    stored: int
    """Without those that had been sent before."""
    skipped: dict[str, int]
    """Passed over, by why: `action NAME` that says nothing of a product, `no shopper`, `no product`, `no query`,
    `unknown product`, `an id too long`."""


def events_of_ubi(body: UbiRequest, catalogue: Container[str], most: int) -> tuple[list[SentEvent], dict[str, int]]:
    """Events, oldest first, and how many were passed over by why.

    The shopper is UBI's `client_id`, as for `reshelf data import --mapping ubi`: queries have no `user_id`.

    Args:
        catalogue: ids of items; where it is empty, all are let through.
        most: characters of an id; longer queries are cut.

    Examples:
        >>> body = UbiRequest.model_validate({
        ...     "queries": [{"user_query": "mug", "client_id": "c1", "timestamp": "2026-03-01T10:00:00Z"}],
        ...     "events": [{"action_name": "page_exit", "client_id": "c1", "timestamp": "2026-03-01T10:00:09Z"}],
        ... })
        >>> events, skipped = events_of_ubi(body, {"p1"}, most=1000)
        >>> [(event.user_id, event.query) for event in events], skipped
        ([('c1', 'mug')], {'action page_exit': 1})
    """
    events: list[SentEvent] = []
    skipped: Counter[str] = Counter()
    texts = {query.query_id: query.user_query[:most] for query in body.queries if query.query_id}
    for query in body.queries:
        shopper = query.client_id or ""
        if why := _problem(shopper, "query" if query.user_query.strip() else "", "no query", most):
            skipped[why] += 1
            continue
        once = _once(query.query_id, "search", query.user_query, query.timestamp)
        text = query.user_query[:most]
        events.append(
            SentEvent(kind=EventKind.SEARCH, user_id=shopper, query=text, time=query.timestamp, event_id=once)
        )
    for event in body.events:
        kind, shopper = _KINDS.get(event.action_name), event.client_id or ""
        attributes = event.event_attributes
        item_id = (attributes and attributes.object and attributes.object.object_id) or ""
        if kind is None:
            skipped[f"action {event.action_name[:_LONGEST]}"] += 1
            continue
        if why := _problem(shopper, item_id, "no product", most):
            skipped[why] += 1
            continue
        if catalogue and item_id not in catalogue:
            skipped["unknown product"] += 1
            continue
        once = _once(event.query_id, event.action_name, item_id, event.timestamp)
        found_by = texts.get(event.query_id or "")
        one = SentEvent(
            kind=kind, user_id=shopper, item_id=item_id, query=found_by, time=event.timestamp, event_id=once
        )
        events.append(one)
    timed = sorted(events, key=lambda one: (one.time is None, one.time.timestamp() if one.time is not None else 0.0))
    return timed, dict(skipped.most_common(_NAMED))


def _problem(shopper: str, what: str, missing: str, most: int) -> str:
    """Why there is no event; empty where there is one."""
    if not shopper:
        return "no shopper"
    if not what:
        return missing
    return "an id too long" if max(len(shopper), len(what)) > most else ""


def _once(query_id: str | None, action: str, what: str, time: object) -> str | None:
    """The same for a batch that is sent again; None where nothing tells two such things apart."""
    if query_id is None and time is None:
        return None
    parts = (query_id, action, what, time)
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()

"""From what a client sends to items and events the prompt can be written of.

    items = items_of(request.documents, catalogue)

Titles and histories are whatever shops and shoppers wrote: what cannot be read is refused with its field, and an event
whose item nobody described is left out and counted, for a ranking with less history is better than none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from reshelf.data.schema import Event, Item
from reshelf.inference.serving.history import StoredEvent
from reshelf.prompts.levels import FeatureLevels

_NAMES = {"id": "item_id", "text": "title"}
"""What others call an item's fields."""


class RefusedError(Exception):
    """A request that cannot be served as it is.

    Args:
        message: one sentence.
        field: where in the request.
        status: HTTP status.
        wait_s: seconds after which the same request may be served; None where it will not be.
    """

    def __init__(self, message: str, field: str | None = None, status: int = 422, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.message, self.field, self.status, self.wait_s = message, field, status, wait_s


def check_lengths(texts: Mapping[str, Any], most: int) -> None:
    """Raises RefusedError where a text, by its field, has more than `most` characters; what is no text has none."""
    for field, text in texts.items():
        if isinstance(text, str) and len(text) > most:
            raise RefusedError(f"{len(text)} characters; send at most {most}", field)


def items_of(documents: Sequence[str | Mapping[str, Any]], catalogue: Mapping[str, Item]) -> list[Item]:
    """An item per document: the catalogue's where only its id is given. A text becomes an item with that title.

    Raises:
        RefusedError: an item is invalid, empty, or there twice.
    """
    items: list[Item] = []
    first: dict[str, int] = {}
    for n, document in enumerate(documents):
        field = f"documents[{n}]"
        if isinstance(document, str):
            known = catalogue.get(document)
            item = known if known is not None else _text(document, n, field)
        else:
            item = _item(document, n, field, catalogue)
        if item.item_id in first:
            raise RefusedError(f"the item of documents[{first[item.item_id]}] is there again; send it once", field)
        first[item.item_id] = n
        items.append(item)
    return items


def _text(text: str, n: int, field: str) -> Item:
    if not text.strip():
        raise RefusedError("an empty text; send what the product is called", field)
    return Item(item_id=f"document {n}", title=text)


def _item(document: Mapping[str, Any], n: int, field: str, catalogue: Mapping[str, Item]) -> Item:
    """Fields that an item has; others, which clients send for themselves, are let through."""
    given = {_NAMES.get(name, name): value for name, value in document.items() if value is not None}
    fields = {name: value for name, value in given.items() if name in Item.model_fields}
    if isinstance(fields.get("item_id"), int):
        fields["item_id"] = str(fields["item_id"])
    known = catalogue.get(fields["item_id"]) if isinstance(fields.get("item_id"), str) else None
    if known is not None and set(fields) == {"item_id"}:
        return known
    if not isinstance(fields.get("title"), str) or not fields["title"].strip():
        what = "not in the catalogue, and no title or text says what it is"
        raise RefusedError(what if "item_id" in fields else "no title, no text and no id", f"{field}.title")
    if isinstance(fields.get("category"), str):
        fields["category"] = [fields["category"]]
    try:
        return Item.model_validate({"item_id": f"document {n}"} | fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(first["msg"], ".".join([field, *map(str, first["loc"])])) from error


def described(history: Sequence[StoredEvent], items: Mapping[str, Item]) -> tuple[list[Event], dict[str, Item], int]:
    """Events whose items are known, the items that came with them, and how many events were left out."""
    own = {one.item.item_id: one.item for one in history if one.item is not None}
    events = [
        one.event
        for one in history
        if one.event.item_id is None or one.event.item_id in items or one.event.item_id in own
    ]
    return events, own, len(history) - len(events)


def filled(
    scores: Sequence[float] | None, features: Mapping[str, Sequence[float]], levels: FeatureLevels, count: int
) -> tuple[Sequence[float] | None, dict[str, Sequence[float]], list[str]]:
    """Numbers the model reads, also where the request does not carry them, and the names of those.

    First-stage scores fall evenly over the levels with the place; other numbers are the middle one for everybody.
    """
    made: list[str] = []
    numbers = dict(features)
    for name, edges in levels.edges.items():
        if name == "first_stage" and scores is None:
            places = np.linspace(len(edges) - 1, 0, count).round().astype(int)
            scores = [edges[place] for place in places] if edges else [0.0] * count
            made.append("scores")
        elif name != "first_stage" and name not in numbers:
            numbers[name] = [levels.middle(name)] * count
            made.append(f"features.{name}")
    return scores, numbers, made

"""From the documents a client sends to items.

    items = items_of(request.documents, catalogue)

Titles are whatever shops wrote: what cannot be read is refused with its field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from reshelf.data.schema import Item

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

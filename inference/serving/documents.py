"""From the documents a client sends to items.

    items = items_of(request.documents, catalogue)

Titles are whatever shops wrote: what cannot be read is refused with its field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reshelf.data.schema import Item
from reshelf.inference.serving.refusals import RefusedError, field_name
from reshelf.inference.serving.schemas import SentItem

_LIKE_AN_ID = re.compile(r"(?=.*[0-9])[A-Za-z0-9_.:/-]{1,64}")
_NAMES = {"id": "item_id", "text": "title"}
"""What others call an item's fields."""
_ITEM: TypeAdapter[Item] = TypeAdapter(SentItem)


def check_lengths(value: Any, field: str, most: int) -> None:
    """Raises RefusedError, with its field, where a text in `value`, or in its lists and objects, has more than `most`
    characters."""
    if isinstance(value, str):
        if len(value) > most:
            raise RefusedError(f"{len(value)} characters; send at most {most}", field)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            check_lengths(entry, f"{field}.{name}", most)
    elif isinstance(value, list | tuple):
        for n, entry in enumerate(value):
            check_lengths(entry, f"{field}[{n}]", most)


def items_of(
    documents: Sequence[str | Mapping[str, Any]], catalogue: Mapping[str, Item], most: int = 20_000
) -> list[Item]:
    """An item per document: the catalogue's where only its id is given. A text becomes an item with that title.

    Args:
        documents: as sent.
        catalogue: items by id.
        most: characters of a text.

    Raises:
        RefusedError: an item is invalid, empty, or there twice.
    """
    items: list[Item] = []
    first: dict[str, int] = {}
    for n, document in enumerate(documents):
        field = f"documents[{n}]"
        if isinstance(document, str):
            check_lengths(document, field, most)
            known = catalogue.get(document)
            item = known if known is not None else _text(document, n, field)
        else:
            item = _item(document, n, field, catalogue, most)
        if item.item_id in first:
            raise RefusedError(f"the item of documents[{first[item.item_id]}] is there again; send it once", field)
        first[item.item_id] = n
        items.append(item)
    return items


def unknown_ids(documents: Sequence[str | Mapping[str, Any]], catalogue: Mapping[str, Item]) -> list[int]:
    """Places of texts that are no ids of the catalogue but seem to be meant as ids: beside others that are, or a
    single word with a digit in it.
    """
    texts = [(n, document) for n, document in enumerate(documents) if isinstance(document, str)]
    unknown = [(n, text) for n, text in texts if text not in catalogue]
    if not catalogue or not unknown:
        return []
    beside = len(unknown) < len(texts)
    return [n for n, text in unknown if beside or _LIKE_AN_ID.fullmatch(text)]


def _text(text: str, n: int, field: str) -> Item:
    if not text.strip():
        raise RefusedError("an empty text; send what the product is called", field)
    return Item(item_id=f"document {n}", title=text)


def _item(document: Mapping[str, Any], n: int, field: str, catalogue: Mapping[str, Item], most: int) -> Item:
    """Fields that an item has; others, which clients send for themselves, are let through."""
    sent = {_NAMES.get(name, name): value for name, value in document.items() if value is not None}
    fields = {name: value for name, value in sent.items() if name in Item.model_fields}
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
    check_lengths(fields, field, most)
    try:
        return _ITEM.validate_python({"item_id": f"document {n}"} | fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RefusedError(first["msg"], field + (f".{field_name(first['loc'])}" if first["loc"] else "")) from error

"""From the documents a client sends to items.

    items, invalid = items_of(request.documents, catalogue)

Titles are whatever shops wrote: what cannot be read is said with its field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reshelf.data.dataset_folder import message_of
from reshelf.data.schema import Item
from reshelf.inference.serving.refusals import RefusedError, field_name
from reshelf.inference.serving.schemas import SentItem

_LIKE_AN_ID = re.compile(r"(?=.*[0-9])[A-Za-z0-9_.:/-]{1,64}")
_READ = {*Item.model_fields, "id", "text"}
_ITEM: TypeAdapter[Item] = TypeAdapter(SentItem)


def check_lengths(value: Any, field: str, most: int) -> None:
    """Raises RefusedError, with its field, where a text in `value`, or in its lists and objects and among their names,
    has more than `most` characters."""
    if isinstance(value, str):
        if len(value) > most:
            raise RefusedError(f"{len(value)} characters; send at most {most}", field)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            if len(name) > most:
                raise RefusedError(f"a name of {len(name)} characters; send at most {most}", field)
            check_lengths(entry, f"{field}.{name}", most)
    elif isinstance(value, list | tuple):
        for n, entry in enumerate(value):
            check_lengths(entry, f"{field}[{n}]", most)


def items_of(
    documents: Sequence[str | Mapping[str, Any]], catalogue: Mapping[str, Item], most: int = 20_000,
    rank_fields: Collection[str] | None = None,
) -> tuple[dict[int, Item], dict[int, RefusedError]]:  # fmt: skip
    """An item per document: the catalogue's where only its id is given. A text becomes an item with that title.

    Args:
        documents: as sent.
        catalogue: items by id.
        most: characters of a text.
        rank_fields: which fields of objects are read; None for all.

    Returns:
        Items by their places, and of the other documents what is wrong with them: invalid, empty, or there twice.
    """
    items: dict[int, Item] = {}
    invalid: dict[int, RefusedError] = {}
    first: dict[str, int] = {}
    for n, document in enumerate(documents):
        field = f"documents[{n}]"
        try:
            if isinstance(document, str):
                check_lengths(document, field, most)
                item = catalogue.get(document) or _text(document, n, field)
            else:
                item = _item(document, n, field, catalogue, most, rank_fields)
            if item.item_id in first:
                raise RefusedError(f"the item of documents[{first[item.item_id]}] is there again; send it once", field)
        except RefusedError as error:
            invalid[n] = error
            continue
        first[item.item_id] = n
        items[n] = item
    return items, invalid


def unread_fields(documents: Sequence[str | Mapping[str, Any]]) -> dict[str, str]:
    """Names in objects that are no fields of an item, and where the first of each is: documents[3].pric."""
    found: dict[str, str] = {}
    for n, document in enumerate(documents):
        if isinstance(document, Mapping):
            for name in document.keys() - _READ:
                found.setdefault(name, f"documents[{n}].{name}")
    return found


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


def _item(
    document: Mapping[str, Any], n: int, field: str, catalogue: Mapping[str, Item], most: int,
    rank_fields: Collection[str] | None,
) -> Item:  # fmt: skip
    """Fields that an item has; others, which clients send for themselves, are let through."""
    sent = {name: value for name, value in document.items() if value is not None}
    item_id = sent.pop("id", None)
    fields = {"item_id": item_id} if item_id is not None and "item_id" not in sent else {}
    fields |= {
        name: value
        for name, value in sent.items()
        if name in Item.model_fields and (rank_fields is None or name in rank_fields or name == "item_id")
    }
    # A text is what others call a title; beside a title, it is the description.
    if (text := sent.get("text")) is not None and (rank_fields is None or "text" in rank_fields):
        fields.setdefault("description" if fields.get("title") else "title", text)
    if isinstance(fields.get("item_id"), int) and not isinstance(fields["item_id"], bool):
        fields["item_id"] = str(fields["item_id"])
    known = catalogue.get(fields["item_id"]) if isinstance(fields.get("item_id"), str) else None
    if known is not None and set(fields) == {"item_id"}:
        return known
    if known is not None and "title" not in fields:  # today's price, or whether it is in stock
        if isinstance(fields.get("attributes"), dict):
            fields["attributes"] = known.attributes | fields["attributes"]
        fields = dict(known) | fields
    if not isinstance(fields.get("title"), str) or not fields["title"].strip():
        if rank_fields is not None and not {"title", "text"} & set(rank_fields):
            raise RefusedError("no title is read: rank_fields names neither title nor text", f"{field}.title")
        what = "not in the catalogue, and no title or text says what it is"
        raise RefusedError(what if "item_id" in fields else "no title, no text and no id", f"{field}.title")
    if isinstance(fields.get("category"), str):
        fields["category"] = [fields["category"]]
    check_lengths(fields, field, most)
    try:
        return _ITEM.validate_python({"item_id": f"document {n}"} | fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = f"{field}.{field_name(first['loc'])}" if first["loc"] else field
        raise RefusedError(message_of(first), at) from error

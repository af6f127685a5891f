"""The catalogue of an import: rows of an items table become `Item`s, and what cannot be right becomes missing.

    items = read_items(spec, root, books)      # dict of item id to Item

Errors: a missing id, an id that comes twice (unless `duplicates: first`), a column that is not there.
Repairs, counted by reason: a missing title (the item is kept as "untitled"), a price that is negative, absurdly high
or no number, stars outside 0 to 5, a negative number of ratings, mark-up in a description.
"""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.mapping import ItemsTable
from reshelf.data.importing.readers import RawTable, read_table
from reshelf.data.price_levels import with_price_levels
from reshelf.data.schema import Item

UNTITLED = "untitled"
_HIDDEN = re.compile(r"<(style|script)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_SPACE = re.compile(r"\s+")


def read_items(spec: ItemsTable, root: Path, books: Accounts) -> dict[str, Item]:
    """Read the catalogue and add price levels.

    Raises:
        InputError: names file, row and field.
    """
    single = (
        "category",
        "brand",
        "price",
        "currency",
        "rating",
        "rating_count",
        "attribute_text",
        "description",
        "image",
    )
    columns = [
        spec.item_id,
        spec.title,
        *(c for name in single if (c := getattr(spec, name))),
        *spec.attributes.values(),
    ]
    raw = read_table(spec, root, columns, "items")
    books.read("items", raw.n_read)
    books.drop("items", "not chosen by where", raw.n_read - len(raw))
    ids = raw.ids(spec.item_id).to_pylist()
    titles = raw.texts(spec.title)
    optional: dict[str, list[Any]] = {
        name: _texts(raw, getattr(spec, name)) for name in ("brand", "currency", "description", "image")
    }
    categories = _categories(raw, spec)
    prices = _numbers(raw, spec.price, 0, spec.max_price, "price", books)
    ratings = _numbers(raw, spec.rating, 0, 5, "rating", books)
    counts = _numbers(raw, spec.rating_count, 0, 2**53, "rating_count", books)
    attributes = {name: raw.texts(column) for name, column in spec.attributes.items()}
    attribute_text = _texts(raw, spec.attribute_text)
    items: dict[str, Item] = {}
    first: dict[str, int] = {}
    for i, item_id in enumerate(ids):
        if item_id in first:
            if spec.duplicates == "error":
                raw.fail(
                    i,
                    spec.item_id,
                    f"item {item_id!r} is there already ({raw.place(first[item_id])}); "
                    "remove one, or set items.duplicates: first",
                )
            books.drop("items", "item id seen before", 1)
            continue
        first[item_id] = i
        title = _clean(titles[i])
        if title is None:
            books.repair("items", "title missing, now 'untitled'", 1)
        description = optional["description"][i]
        if description is not None and (plain := plain_text(description)) != description:
            books.repair("items", "mark-up taken out of the description", 1)
            description = plain or None
        named = {name: values[i] for name, values in attributes.items()} | _split_attributes(attribute_text[i], spec)
        items[item_id] = Item(
            item_id=item_id,
            title=title or UNTITLED,
            category=categories[i],
            brand=_clean(optional["brand"][i]),
            price=_known(prices[i]),
            currency=optional["currency"][i] or (spec.currency_code if _known(prices[i]) is not None else None),
            rating=_known(ratings[i]),
            rating_count=None if math.isnan(counts[i]) else int(counts[i]),
            attributes={name: value for name, value in named.items() if value},
            description=description,
            image=optional["image"][i],
        )
    books.keep("items", len(items))
    return with_price_levels(items.values())


def plain_text(text: str) -> str:
    """Text without HTML tags, style blocks and entities, white space collapsed."""
    if "<" in text:
        text = _TAG.sub(" ", _HIDDEN.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    return _SPACE.sub(" ", text).strip()


def _clean(text: str | None) -> str | None:
    return (_SPACE.sub(" ", text).strip() or None) if text else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _texts(raw: RawTable, column: str | None) -> list[str | None]:
    return raw.texts(column) if column else [None] * len(raw)


def _categories(raw: RawTable, spec: ItemsTable) -> list[tuple[str, ...]]:
    if not spec.category:
        return [()] * len(raw)
    levels = raw.lists(spec.category, spec.category_separator)
    return [tuple(t for level in path or () if level is not None and (t := str(level).strip())) for path in levels]


def _numbers(
    raw: RawTable, column: str | None, low: float, high: float, name: str, books: Accounts
) -> npt.NDArray[np.float64]:
    """Values outside [low, high] become missing, counted."""
    if column is None:
        return np.full(len(raw), np.nan)
    unreadable: list[int] = []
    values = raw.numbers(column, lambda i, _: unreadable.append(i))
    books.repair("items", f"{name} is no number, now missing", len(unreadable))
    for bad, what in ((values < low, f"below {low:g}"), (values > high, f"above {high:g}")):
        books.repair("items", f"{name} {what}, now missing", int(bad.sum()))
        values[bad] = np.nan
    return values


def _split_attributes(text: str | None, spec: ItemsTable) -> dict[str, str]:
    between, within = spec.attribute_separators
    pairs = (part.split(within, 1) for part in (text or "").split(between) if within in part)
    return {name.strip(): value.strip() for name, value in pairs if name.strip()}

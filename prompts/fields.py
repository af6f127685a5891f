"""Item fields as text that a model can compare: prices with few digits, price levels as $ signs, stars out of five."""

from __future__ import annotations

from reshelf.data.schema import Event, Item


def field_text(item: Item, name: str) -> str:
    """The field as one line of text; empty where the item does not have it."""
    if name == "title":
        text = item.title
    elif name == "brand":
        text = item.brand or ""
    elif name == "price":
        text = "" if item.price is None else f"{number(item.price)} {item.currency or ''}"
    elif name == "price_level":
        text = "$" * (item.price_level or 0)
    elif name == "rating":
        text = "" if item.rating is None else f"{item.rating:.1f}/5"
        if text and item.rating_count is not None:
            text += f" ({number(item.rating_count)})"
    elif name == "category":
        text = " > ".join(item.category)
    elif name == "leaf":
        text = item.category[-1] if item.category else ""
    elif name == "attributes":
        text = ", ".join(f"{key}: {value}" for key, value in item.attributes.items())
    elif name == "description":
        text = item.description or ""
    else:
        raise ValueError(name)
    return " ".join(text.split())


def number(value: float) -> str:
    """At least three significant digits and never an exponent: 4.99, 39.9, 400, 12345."""
    if value >= 100:
        return f"{value:.0f}"
    text = f"{value:.2f}" if value < 10 else f"{value:.1f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def gap_days(before: Event | None, event: Event) -> int:
    """Whole days since the event before; 0 where a time is unknown."""
    if before is None or before.time is None or event.time is None:
        return 0
    return max(0, (event.time - before.time).days)

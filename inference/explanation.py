"""What an explanation says; server, client and `reshelf rerank --explain` share it, and nothing here needs torch.

reply.results[0].explanation.text
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Reason(BaseModel):
    """One thing the model read, and what leaving it out did to a product."""

    kind: Literal["event", "query", "field", "feature"]
    """Something the shopper did, the query, a field of the product, or a feature that came with it."""
    name: str
    """Which, for people: `purchase of Blue cotton jacket`, `brand Acme`."""
    event: int | None = None
    """Its place in the history that was sent or stored, from 0; None for what is no event."""
    change: float
    """Log-odds it gave the product, against the mean of the list: above 0 it spoke for it, below 0 against it."""
    ranks_gained: int
    """Ranks the product rose by it; below 0, ranks it fell."""


class Contrast(BaseModel):
    """Another product, which would be above this one if the shopper had not done one thing: a contrastive explanation
    answers "why this rather than that" (Miller, Artificial Intelligence 267, 2019)."""

    item_id: str
    title: str
    rank: int
    """Where it stands now; 1 is best."""
    without: str
    """What the shopper would not have done: the name of a reason."""


class Explanation(BaseModel):
    """Why a product stands where it does. `reasons` and `contrast` are for programs, `text` is for people.

    Examples:
        >>> bought = Reason(kind="event", name="purchase of Hiking boots", event=0, change=0.8, ranks_gained=3)
        >>> Explanation(reasons=[bought], text="Place 1, 4 before.").model_dump()["reasons"][0]["ranks_gained"]
        3
    """

    reasons: list[Reason]
    """Those that moved it most come first."""
    contrast: Contrast | None = None
    """The most similar of the products that would be above it without one of the events that lifted it."""
    text: str
    """All of it in a few sentences."""

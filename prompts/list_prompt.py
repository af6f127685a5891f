"""What a list becomes: token ids, and what of it did not fit. `prompts.builder` makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Truncated:
    """What did not fit."""

    events: int = 0
    """History events dropped from the old end; a prompt with `memory_tokens` counts what they were on."""
    event_tokens: int = 0
    """Tokens cut from the end of long events."""
    item_tokens: int = 0
    """Tokens cut from the end of long item fields, over all candidates."""
    list_tokens: int = 0
    """Tokens cut from the list in the prefix, over all candidates."""
    query_tokens: int = 0
    """Tokens cut from the end of the query."""
    context_tokens: int = 0
    """Tokens cut from the ends of the context's texts."""


@dataclass(frozen=True)
class ListPrompt:
    """A list as token ids, int32. `prefix` is [P]; `items[k]` is [L_k] and ends at the candidate's score position.

    Examples:
        >>> prompt = ListPrompt("l1", np.arange(5), (np.arange(2), np.arange(3)), Truncated())
        >>> prompt.tokens  # the prefix is counted, and read, once
        10
    """

    list_id: str
    prefix: np.ndarray
    items: tuple[np.ndarray, ...]
    """Slices of one array."""
    truncated: Truncated
    listed: int = 0
    """Tokens at the prefix's end that are the list itself; 0 for independent candidates."""

    @cached_property
    def tokens(self) -> int:
        """Distinct tokens: the prefix once, and every item."""
        return len(self.prefix) + sum(map(len, self.items))

    def parts(self, count: int) -> list[ListPrompt]:
        """At most so many lists behind the same prefix, with about equal numbers of the candidates, in order."""
        size = -(-len(self.items) // count)
        if size == len(self.items):
            return [self]
        return [replace(self, items=self.items[n : n + size]) for n in range(0, len(self.items), size)]

"""A shopper's long memory: what they did before the events that the history has room for, as counts.

    writer = MemoryWriter(parts, room=64)
    ids = writer.write(earlier_events, items)   # earlier , brand Nordvik 12 Velo 3 , leaf Mugs 9 , price_level $$ 4 ;

Brands and categories are counted over all events on items, price levels over purchases. Only events that were dropped
are counted, and they are dropped in blocks: a prefix with its memory stays the same, and in an engine's cache, for as
long as one without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from reshelf.data.schema import Event, EventKind, Item
from reshelf.prompts.fields import field_text
from reshelf.prompts.parts import Parts

FIELDS = ("brand", "leaf", "price_level")
"""What is counted, in the order of the line."""
_VALUE_TOKENS = 8
"""Of one value; a longer one loses its end."""
_KEPT = 16_384
"""Values whose ids are kept, with their counts, those used last; some 4 MB."""
_NOTHING = np.zeros(0, dtype=np.int32)


class MemoryWriter:
    """Writes counts of events.

    Args:
        parts: of the template.
        room: tokens of the whole line; 0 for none.
    """

    def __init__(self, parts: Parts, room: int) -> None:
        self._parts, self._room = parts, room
        self._value = lru_cache(_KEPT)(self._write_value)

    def write(self, events: Sequence[Event], items: Mapping[str, Item]) -> np.ndarray:
        """Ids of the line, int32 [at most `room`]; none where there is nothing to count, or no room for any of it.

        The values of a field come most frequent first, and of equally frequent ones the latest. Where not all have
        room, those are left out that come last in their field.
        """
        if not self._room or not events:
            return _NOTHING
        counts = self._counts(events, items)
        head, end = self._parts.own("memory"), self._parts.own("memory_end")
        room = self._room - len(head) - len(end)
        found: dict[str, list[list[int]]] = {name: [] for name in counts}
        # A value of each field, then a second one of each: no field keeps another one out.
        for place in range(max(map(len, counts.values()), default=0)):
            for name, values in counts.items():
                if place == len(found[name]) < len(values):
                    label = [] if place else self._parts.own("counted", name)
                    written = [*label, *self._value(*values[place])]
                    if len(written) <= room:
                        found[name].append(written)
                        room -= len(written)
        line = [i for written in found.values() for ids in written for i in ids]
        return np.array([*head, *line, *end], dtype=np.int32) if line else _NOTHING

    def forget(self) -> None:
        """Drop what was counted."""
        self._value.cache_clear()

    def _write_value(self, value: str, count: int) -> list[int]:
        return self._parts.within(_VALUE_TOKENS, "count", value, count)[0]

    @staticmethod
    def _counts(events: Sequence[Event], items: Mapping[str, Item]) -> dict[str, list[tuple[str, int]]]:
        """By field, values and how often they came."""
        taken = [(event, items[event.item_id]) for event in reversed(events) if event.item_id is not None]
        found = {}
        for name in FIELDS:
            texts = (
                field_text(item, name)
                for event, item in taken
                if name != "price_level" or event.kind == EventKind.PURCHASE
            )
            found[name] = Counter(text for text in texts if text).most_common()
        return found

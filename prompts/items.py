"""Items of a catalogue as token ids: the fields of a candidate, and those of a history event, within their budgets.

    writer = ItemWriter(tokenizer, config)
    written = writer.write(items)[0]
    written.tokens, written.lost            # as a candidate, int32 [L] without features and answer; tokens cut
    written.event, written.event_sizes      # as the object of an event, int32 [E]; tokens per field

`fit` cuts fields to a room: the last fields lose first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from transformers import PreTrainedTokenizerBase

from reshelf.data.schema import Item
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.fields import field_text
from reshelf.prompts.parts import Parts

LONG = ("title", "brand", "category", "attributes", "description")
"""Fields that may lose their end; the others are written whole or not at all."""


@dataclass(frozen=True, slots=True)
class ItemIds:
    """An item as token ids."""

    tokens: np.ndarray
    """As a candidate: the part `item` and the fields within `item_tokens`, int32 [L]."""
    lost: int
    """Tokens cut to stay within `item_tokens`."""
    event: np.ndarray
    """As the object of an event: the fields within `event_tokens`, int32 [E]."""
    event_sizes: np.ndarray
    """How many of them belong to each of `event_fields`, int32 [F]."""
    event_lost: int
    """Tokens cut to stay within `event_tokens`."""


class ItemWriter:
    """Writes items.

    Args:
        tokenizer: of the model that will read the ids.
        config: template, fields and budgets.
        parts: of that tokenizer and template, where there are some already.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, parts: Parts | None = None) -> None:
        self.config = config
        self.parts = parts or Parts(tokenizer, config)

    def write(self, items: Sequence[Item]) -> list[ItemIds]:
        """Ids of each item; faster for many at once."""
        config = self.config
        names = list(dict.fromkeys([*config.fields, *config.event_fields]))
        texts = [(item, name, field_text(item, name)) for item in items for name in names]
        wanted = dict.fromkeys((name, text) for _, name, text in texts if text)
        read = dict(zip(wanted, self.parts.ids([("field", *key) for key in wanted]), strict=True))
        head = self.parts.own("item")
        result = []
        for start in range(0, len(texts), len(names)):
            found = {name: read[name, text] for _, name, text in texts[start : start + len(names)] if text}
            kept, lost = self.fit([(name, found.get(name, [])) for name in config.fields], config.item_tokens)
            event, event_lost = self.fit([(n, found.get(n, [])) for n in config.event_fields], config.event_tokens)
            result.append(
                ItemIds(
                    np.array([*head, *_flat(kept)], dtype=np.int32), lost,
                    np.array(_flat(event), dtype=np.int32), np.array([len(ids) for ids in event], dtype=np.int32),
                    event_lost,
                )
            )  # fmt: skip
        return result

    def event(self, item: ItemIds, room: int) -> tuple[list[int], int]:
        """Ids of an event's object within `room` tokens, at most `event_tokens`; and how many were lost.

        Fields that were fitted to a larger room before become the same ids as if they had not been.
        """
        flat = item.event.tolist()
        if len(flat) <= room:
            return flat, item.event_lost
        ends = list(accumulate(item.event_sizes.tolist()))
        fields = [
            (name, flat[start:end])
            for name, start, end in zip(self.config.event_fields, [0, *ends], ends, strict=False)
        ]
        kept, lost = self.fit(fields, room)
        return _flat(kept), lost + item.event_lost

    def fit(self, fields: list[tuple[str, list[int]]], room: int) -> tuple[list[list[int]], int]:
        """Ids of each field such that all are within `room` tokens, and how many were lost; the last lose first."""
        size = sum(len(ids) for _, ids in fields)
        over = size - room
        kept = [ids for _, ids in fields]
        for n in reversed(range(len(fields))):
            if over <= 0:
                break
            name, ids = fields[n]
            kept[n] = self.parts.cut(ids, max(0, len(ids) - over))
            if name not in LONG or len(kept[n]) <= self.parts.label_size(name):
                kept[n] = []  # half a price is a wrong price, and a label without a value says nothing
            over -= len(ids) - len(kept[n])
        return kept, size - sum(map(len, kept))


def _flat(fields: list[list[int]]) -> list[int]:
    return [i for ids in fields for i in ids]

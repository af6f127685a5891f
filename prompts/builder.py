"""A RankingList becomes token ids: one prefix (instruction, history, query) and one id list per candidate.

    builder = PromptBuilder(tokenizer, PromptConfig(), items, fit_levels(train, []))
    prompt = builder.build(ranking)
    prompt.prefix, prompt.items[0], prompt.trimmed

Prefix and items are tokenised apart, by this builder only, in training, evaluation and every engine. The prefix never
depends on a candidate. An item's ids are made once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from transformers import PreTrainedTokenizerBase

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.fields import field_text, gap_days, number
from reshelf.prompts.levels import TOP, FeatureLevels, values_of
from reshelf.prompts.tokens import Encoder

LONG = ("title", "brand", "category", "attributes", "description")
"""Fields that may lose their end; the others are written whole or not at all."""

# Private-use characters around what comes from outside; they are removed from the outside text itself.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKS = str.maketrans("", "", _OPEN + _CLOSE)


class _Template(str):
    """Words of the template itself, chosen by an expression."""


def _mark(value: Any) -> str:
    return str(value) if isinstance(value, _Template) else f"{_OPEN}{str(value).translate(_MARKS)}{_CLOSE}"


@dataclass(frozen=True)
class Trimmed:
    """What did not fit."""

    events: int = 0
    """History events dropped from the old end."""
    event_tokens: int = 0
    """Tokens cut from the end of long events."""
    item_tokens: int = 0
    """Tokens cut from the end of long item fields, over all candidates."""


@dataclass(frozen=True)
class ListPrompt:
    """A list as token ids, int32. `prefix` is [P]; `items[k]` is [L_k] and ends at the candidate's score position."""

    list_id: str
    prefix: np.ndarray
    items: tuple[np.ndarray, ...]
    trimmed: Trimmed


def template_source(config: PromptConfig) -> str:
    """The template's text."""
    name = f"{config.template}.{config.language}.jinja"
    return resources.files("reshelf.prompts").joinpath("templates", name).read_text(encoding="utf-8")


class PromptBuilder:
    """Writes lists over one catalogue.

    Args:
        tokenizer: of the model that will read the ids.
        config: template, fields and budgets.
        items: the catalogue; candidates and history items are looked up here.
        levels: edges of the features that `config.features` names.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: PromptConfig,
        items: Mapping[str, Item],
        levels: FeatureLevels | None = None,
    ) -> None:
        self.config = config
        self.items = items
        self.levels = levels or FeatureLevels()
        missing = sorted(set(config.features) - set(self.levels.edges))
        if missing:
            raise InputError(f"prompt.features: no levels known for {missing[0]!r}; fit them on the training lists")
        self._encoder = Encoder(tokenizer)
        environment = jinja2.Environment(finalize=_mark, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        environment.filters["template"] = _Template
        self._part = environment.from_string(template_source(config)).module
        self._items: dict[str, tuple[np.ndarray, int]] = {}
        self._events: dict[tuple[str, int], tuple[list[int], int]] = {}
        self._constant: dict[tuple[str, ...], list[int]] = {}
        self._queries: dict[str, list[int]] = {}
        self._features: dict[tuple[str, int], np.ndarray] = {}

    @cached_property
    def label_ids(self) -> tuple[int, int]:
        """Ids of the positive and the negative label word.

        Raises:
            InputError: a word is not one token, or both are the same one.
        """
        positive, negative = (self._encoder.label(word) for word in (self.config.positive, self.config.negative))
        if positive == negative:
            raise InputError(
                f"label words {self.config.positive!r} and {self.config.negative!r} are the same token; choose two"
            )
        return positive, negative

    @cached_property
    def longest(self) -> int:
        """Upper bound of prefix + one item, in tokens: what a serving engine must be able to hold."""
        config = self.config
        query = max(len(self._ids("query", "")) + config.query_tokens, len(self._ids("no_query")))
        fixed = [len(self._encoder.start), len(self._ids("head")), query, len(self._ids("item"))]
        # Not every level is as many tokens as the highest.
        levels = [max(len(self._feature(name, n)) for n in range(TOP + 1)) for name in config.features]
        return sum(fixed + levels) + len(self._answer) + config.history_tokens + config.item_tokens

    def build(self, ranking: RankingList) -> ListPrompt:
        """Token ids of a list.

        Raises:
            InputError: an item is not in the catalogue, a feature is missing, or the query is over its budget.
        """
        prefix, events, event_tokens = self._prefix(ranking)
        levels = self.levels.of(ranking) if self.config.features else {}
        answer = self._answer
        items = []
        cut = 0
        for k, item_id in enumerate(ranking.candidates):
            ids, lost = self._item(item_id, ranking.list_id)
            cut += lost
            items.append(
                np.concatenate([ids, *(self._feature(n, int(levels[n][k])) for n in self.config.features), answer])
            )
        return ListPrompt(ranking.list_id, prefix, tuple(items), Trimmed(events, event_tokens, cut))

    def check(self, ranking: RankingList) -> None:
        """Raise what `build` would raise for the query and the features of a list, without building it."""
        self._query(ranking)
        for name in self.config.features:
            values_of(ranking, name)

    def _query(self, ranking: RankingList) -> list[int]:
        query = " ".join(ranking.query.split())
        if not query:
            return self._own("no_query")
        if query not in self._queries:
            size = len(self._encoder.data(" " + query))
            if size > self.config.query_tokens:
                raise InputError(
                    f"list {ranking.list_id}, field query: {size} tokens, over the budget of "
                    f"{self.config.query_tokens}; shorten the query or raise prompt.query_tokens"
                )
            self._queries[query] = self._ids("query", query)
        return self._queries[query]

    def _prefix(self, ranking: RankingList) -> tuple[np.ndarray, int, int]:
        config = self.config
        written = []
        before: Event | None = None
        for event in ranking.history:
            written.append(self._event(event, before, ranking.list_id))
            before = event
        sizes = np.array([len(ids) for ids, _ in written], dtype=np.int64)
        dropped = 0
        while sizes[dropped:].sum() > config.history_tokens:
            dropped += config.history_block
        if dropped >= len(written):
            # A block holds the whole budget: keep what fits rather than nothing.
            dropped = next(n for n in range(len(written) + 1) if sizes[n:].sum() <= config.history_tokens)
        kept = [i for ids, _ in written[dropped:] for i in ids]
        ids = [*self._encoder.start, *self._own("head"), *kept, *self._query(ranking)]
        return np.array(ids, dtype=np.int32), dropped, sum(lost for _, lost in written[dropped:])

    def _event(self, event: Event, before: Event | None, list_id: str) -> tuple[list[int], int]:
        head = self._own("event", event.kind.value)
        tail: list[int] = []
        if event.kind == EventKind.RATING and event.value is not None:
            tail += self._ids("rated", number(event.value))
        days = gap_days(before, event) if self.config.event_gaps else 0
        if days:
            tail += self._ids("gap", days)
        tail += self._own("event_end")
        room = max(0, self.config.event_tokens - len(head) - len(tail))
        if event.kind == EventKind.SEARCH:
            query = self._ids("searched", " ".join((event.query or "").split()))
            kept = self._cut(query, room)
            return head + kept + tail, len(query) - len(kept)
        assert event.item_id is not None
        key = event.item_id, room
        if key not in self._events:
            item = self._lookup(event.item_id, list_id, "history")
            self._events[key] = self._fit(self._fields(item, self.config.event_fields), room)
        kept, lost = self._events[key]
        return head + kept + tail, lost

    def _item(self, item_id: str, list_id: str) -> tuple[np.ndarray, int]:
        if item_id not in self._items:
            item = self._lookup(item_id, list_id, "candidates")
            kept, lost = self._fit(self._fields(item, self.config.fields), self.config.item_tokens)
            self._items[item_id] = np.array(self._own("item") + kept, dtype=np.int32), lost
        return self._items[item_id]

    def _lookup(self, item_id: str, list_id: str, field: str) -> Item:
        item = self.items.get(item_id)
        if item is None:
            raise InputError(f"list {list_id}, field {field}: item {item_id!r} is not in the catalogue")
        return item

    def _fields(self, item: Item, names: list[str]) -> list[tuple[str, list[int]]]:
        texts = ((name, field_text(item, name)) for name in names)
        return [(name, self._ids("field", name, text)) for name, text in texts if text]

    def _fit(self, fields: list[tuple[str, list[int]]], room: int) -> tuple[list[int], int]:
        """Ids of the fields within `room` tokens, and how many were lost; the last fields lose first."""
        size = sum(len(ids) for _, ids in fields)
        over = size - room
        kept = [ids for _, ids in fields]
        for n in reversed(range(len(fields))):
            if over <= 0:
                break
            name, ids = fields[n]
            kept[n] = self._cut(ids, max(0, len(ids) - over))
            if name not in LONG or len(kept[n]) <= self._label_size(name):
                kept[n] = []  # half a price is a wrong price, and a label without a value says nothing
            over -= len(ids) - len(kept[n])
        flat = [i for ids in kept for i in ids]
        return flat, size - len(flat)

    def _label_size(self, name: str) -> int:
        """Tokens of a field before its value."""
        text = self._text("field", name, "")
        return len(self._encoder.template(text[: text.index(_OPEN)].removesuffix(" ")))

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """The first `room` ids, or a few less so that no character is cut in two (a token can be part of one)."""
        if len(ids) <= room:
            return ids
        for end in range(room, max(room - 4, -1), -1):
            if not str(self._encoder.tokenizer.decode(ids[:end])).endswith("\ufffd"):
                return ids[:end]
        return ids[:room]

    def _feature(self, name: str, level: int) -> np.ndarray:
        if (name, level) not in self._features:
            self._features[name, level] = np.array(self._ids("feature", name, level), dtype=np.int32)
        return self._features[name, level]

    @cached_property
    def _answer(self) -> np.ndarray:
        return np.array(self._ids("answer"), dtype=np.int32)

    def _own(self, *part: str) -> list[int]:
        """Ids of a part that holds nothing from outside, made once."""
        if part not in self._constant:
            self._constant[part] = self._ids(*part)
        return self._constant[part]

    def _text(self, part: str, *values: Any) -> str:
        """One part of the template, with marks around what comes from outside."""
        return str(getattr(self._part, part)(*values))

    def _ids(self, part: str, *values: Any) -> list[int]:
        """Ids of one part of the template: its own words read with control tokens, what comes from outside without."""
        text = self._text(part, *values)
        ids: list[int] = []
        space = ""
        for n, piece in enumerate(text.split(_OPEN)):
            data, _, rest = piece.partition(_CLOSE) if n else ("", "", piece)
            if data:
                ids += self._encoder.data(space + data)
                space = ""
            elif n:
                ids += self._encoder.template(space)
            # A space belongs to the word after it, as in running text.
            space = " " if rest.endswith(" ") else ""
            ids += self._encoder.template(rest.removesuffix(" "))
        return ids + self._encoder.template(space)

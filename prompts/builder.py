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
        self._events: dict[tuple[EventKind, str], tuple[list[int], int]] = {}
        self._queries: dict[str, list[int]] = {}
        self._features: dict[tuple[str, int], np.ndarray] = {}

    @cached_property
    def label_ids(self) -> tuple[int, int]:
        """Ids of the positive and the negative label word."""
        return self._encoder.label(self.config.positive), self._encoder.label(self.config.negative)

    @cached_property
    def longest(self) -> int:
        """Upper bound of prefix + one item, in tokens: what a serving engine must be able to hold."""
        config = self.config
        fixed = [len(self._encoder.start), len(self._ids("head")), len(self._ids("query", "")), len(self._ids("item"))]
        answer = [len(self._ids("feature", name, TOP)) for name in config.features] + [len(self._ids("answer"))]
        return sum(fixed + answer) + config.history_tokens + config.query_tokens + config.item_tokens

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
        if not ranking.query:
            return self._ids("no_query")
        if ranking.query not in self._queries:
            size = len(self._encoder.data(" " + ranking.query))
            if size > self.config.query_tokens:
                raise InputError(
                    f"list {ranking.list_id}, field query: {size} tokens, over the budget of "
                    f"{self.config.query_tokens}; shorten the query or raise prompt.query_tokens"
                )
            self._queries[ranking.query] = self._ids("query", ranking.query)
        return self._queries[ranking.query]

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
        dropped = min(dropped, len(written))
        kept = [i for ids, _ in written[dropped:] for i in ids]
        ids = [*self._encoder.start, *self._ids("head"), *kept, *self._query(ranking)]
        return np.array(ids, dtype=np.int32), dropped, sum(lost for _, lost in written[dropped:])

    def _event(self, event: Event, before: Event | None, list_id: str) -> tuple[list[int], int]:
        if event.kind == EventKind.SEARCH:
            ids, lost = self._ids("event", event.kind.value) + self._ids("searched", event.query or ""), 0
        else:
            assert event.item_id is not None
            key = event.kind, event.item_id
            if key not in self._events:
                item = self._lookup(event.item_id, list_id, "history")
                texts = [self._ids("event", event.kind.value), *self._fields(item, self.config.event_fields)]
                self._events[key] = [i for ids in texts for i in ids], 0
            ids, lost = self._events[key]
        tail: list[int] = []
        if event.kind == EventKind.RATING and event.value is not None:
            tail += self._ids("rated", number(event.value))
        days = gap_days(before, event) if self.config.event_gaps else 0
        if days:
            tail += self._ids("gap", days)
        tail += self._ids("event_end")
        room = max(1, self.config.event_tokens - len(tail))
        lost = max(0, len(ids) - room)
        return ids[:room] + tail, lost

    def _item(self, item_id: str, list_id: str) -> tuple[np.ndarray, int]:
        if item_id not in self._items:
            item = self._lookup(item_id, list_id, "candidates")
            fields = self._fields(item, self.config.fields)
            over = lost = max(0, sum(map(len, fields)) - self.config.item_tokens)
            for n in reversed(range(len(fields))):
                cut = min(over, len(fields[n]))
                fields[n] = fields[n][: len(fields[n]) - cut]
                over -= cut
            ids = [*self._ids("item"), *(i for ids in fields for i in ids)]
            self._items[item_id] = np.array(ids, dtype=np.int32), lost
        return self._items[item_id]

    def _lookup(self, item_id: str, list_id: str, field: str) -> Item:
        item = self.items.get(item_id)
        if item is None:
            raise InputError(f"list {list_id}, field {field}: item {item_id!r} is not in the catalogue")
        return item

    def _fields(self, item: Item, names: list[str]) -> list[list[int]]:
        texts = ((name, field_text(item, name)) for name in names)
        return [self._ids("field", name, text) for name, text in texts if text]

    def _feature(self, name: str, level: int) -> np.ndarray:
        if (name, level) not in self._features:
            self._features[name, level] = np.array(self._ids("feature", name, level), dtype=np.int32)
        return self._features[name, level]

    @cached_property
    def _answer(self) -> np.ndarray:
        return np.array(self._ids("answer"), dtype=np.int32)

    def _ids(self, part: str, *values: Any) -> list[int]:
        """Ids of one part of the template: its own words read with control tokens, what comes from outside without."""
        text = getattr(self._part, part)(*values)
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

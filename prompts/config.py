"""How a list is written: which template, which fields, and how many tokens each part may take.

config = PromptConfig(template="plain", fields=["title", "price_level"])
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Literal

from reshelf.data.language import catalogue_language
from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.ranges import AT_LEAST_1, Range, check_numbers

WHOLE = ("title", "brand", "price", "price_level", "rating", "category", "attributes", "description")
"""Everything there is to say of an item, once. Cheap fields before long ones: an item that is too long loses tokens
from the last field first."""
FIELDS = (*WHOLE, "leaf")
"""All names there are. `leaf` is the last level of the category path, for when the rest is much the same everywhere."""

WITHOUT: dict[str, dict[str, Any]] = {
    "title": {"title": ""},
    "brand": {"brand": None},
    "price": {"price": None, "currency": None},
    "price_level": {"price_level": None},
    "rating": {"rating": None, "rating_count": None},
    "category": {"category": ()},
    "attributes": {"attributes": {}},
    "description": {"description": None},
    "leaf": {"category": ()},
}
"""What an item is without a field. What means nothing alone goes together."""

SIGNALS = "signals"
"""Among `features`: all those that the data set keeps."""

LETTERS = ascii_uppercase + ascii_lowercase
"""Levels 0 … 51 as letters."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass
class PromptConfig:
    """The prompt of a reranker. It is stored with the model, and a model is only used with its own prompt."""

    template: Literal["qwen3", "plain"] = "qwen3"
    """qwen3: the chat format of Qwen3-Reranker. plain: bare lines, for base models without chat tokens."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the template's own words, and of what explains the model's order to people. auto: that of most titles
    of the catalogue that it is trained on."""
    positive: str = "yes"
    """Label word for "wanted"; one token of the vocabulary."""
    negative: str = "no"
    """Label word for "not wanted"; one token of the vocabulary."""
    fields: list[str] = field(default_factory=lambda: list(WHOLE))
    """Item fields of a candidate, in this order: title, brand, price, price_level, rating, category, attributes,
    description; or leaf, the last level of the category alone."""
    event_fields: list[str] = field(default_factory=lambda: ["title", "brand", "price"])
    """Item fields of an event in the history."""
    event_gaps: bool = True
    """Write how many days passed since the event before, where times are known."""
    features: list[str] = field(default_factory=list)
    """Candidate numbers written as levels: names from RankingList.features, first_stage for its scores, and `signals`
    for all signals that the data set keeps."""
    feature_names: Literal["candidate", "prefix"] = "candidate"
    """Where the names of features stand: beside each level, or once in the prefix, where candidates have the levels
    alone, in that order. A tokenizer that knows no shop spends more tokens on a name than on a level."""
    level_format: Literal["number", "letter"] = "number"
    """How a level is written: as a number, or as a letter from A, the lowest, to z, the 51st. A base that
    `reshelf pretrain` made has a token for every number; others spell most in two or three, and a letter is one."""
    levels: int = 20
    """The highest level, from 0. More levels tell numbers apart that are close, and take more lists to learn."""
    context: list[str] = field(default_factory=list)
    """Names from RankingList.context that are written, each on a line of its own before the query, such as device,
    season, page, instruction. A list without one has no such line."""
    context_tokens: int = 32
    """Budget of one of these lines' texts, in tokens; a longer one loses its end."""
    history_tokens: int = 1024
    """Budget of the whole history, in tokens; the oldest events go first."""
    history_block: int = 8
    """Events are dropped from the old end this many at a time, so that a cached prefix stays valid for many events."""
    event_tokens: int = 32
    """Budget of one event, in tokens."""
    memory_tokens: int = 0
    """Budget of a line, before the history, that counts what the dropped events were on: brands, categories, and price
    levels of purchases. In tokens, at most 64; 0 for none. It comes on top of history_tokens."""
    query_tokens: int = 64
    """Budget of the query, in tokens; a longer one loses its end, which `truncated` counts."""
    item_tokens: int = 128
    """Budget of one candidate's fields, in tokens; long fields lose their end first."""
    list_tokens: int = 4096
    """Budget of the list in the prefix, in tokens, for `candidates: joint`. Where it is not enough, every candidate
    there keeps an equal share of it; what it is judged by stays whole."""

    def __post_init__(self) -> None:
        for name, values in (("fields", self.fields), ("event_fields", self.event_fields)):
            unknown = [v for v in values if v not in FIELDS]
            if unknown or not values:
                raise InputError(f"prompt.{name}: {unknown or 'empty'}; choose from {', '.join(FIELDS)}")
        if wrong := [name for name in self.context if not _NAME.fullmatch(name) or self.context.count(name) > 1]:
            raise InputError(f"prompt.context: {wrong[0]!r}; give each name once, in small letters, digits and _")
        tokens = (
            "history_tokens", "history_block", "event_tokens", "query_tokens", "context_tokens", "item_tokens",
            "list_tokens",
        )  # fmt: skip
        levels = Range(2, len(LETTERS) - 1) if self.level_format == "letter" else Range(2)
        others = {"levels": levels, "memory_tokens": Range(0, 64)}
        check_numbers(self, {**dict.fromkeys(tokens, AT_LEAST_1), **others}, "prompt.")
        if self.event_tokens > self.history_tokens:
            raise InputError(
                f"prompt.event_tokens is {self.event_tokens}, more than prompt.history_tokens ({self.history_tokens})"
            )

    def level_word(self, level: int) -> str:
        """A level as a candidate's text has it.

        Examples:
            >>> PromptConfig().level_word(17), PromptConfig(level_format="letter").level_word(17)
            ('17', 'R')
        """
        return LETTERS[level] if self.level_format == "letter" else str(level)

    def in_language_of(self, items: Iterable[Item]) -> PromptConfig:
        """The same with a language: that of the catalogue where it is auto."""
        if self.language != "auto":
            return self
        return replace(self, language=catalogue_language(item.title for item in items))

    def with_signals(self, kept: Sequence[str]) -> PromptConfig:
        """The same with the names of signals in place of `signals`.

        Examples:
            >>> PromptConfig(features=["first_stage", "signals"]).with_signals(["match", "popularity"]).features
            ['first_stage', 'match', 'popularity']
        """
        names = [own for name in self.features for own in (kept if name == SIGNALS else (name,))]
        return replace(self, features=list(dict.fromkeys(names)))

"""The parts of a template (head, event, field, answer …) as token ids.

    parts = Parts(tokenizer, config)
    parts.own("answer")                                   # holds nothing from outside: made once
    parts.ids([("field", "title", "oak chair"), ("field", "brand", "Nordvik")])

What comes from outside is marked when the template is filled in, and read as data; the template's own words are read
with their control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase

from reshelf.prompts.config import PromptConfig
from reshelf.prompts.tokens import Encoder

Part = tuple[Any, ...]
"""Name of a part, and its values."""

# Private-use characters around what comes from outside; they are removed from the outside text itself.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKS = str.maketrans("", "", _OPEN + _CLOSE)
_KEPT = 4096
"""Short texts whose ids are kept: the template's own words, gaps in days, stars."""


class _Template(str):
    """Words of the template itself, chosen by an expression."""


def _mark(value: Any) -> str:
    return str(value) if isinstance(value, _Template) else f"{_OPEN}{str(value).translate(_MARKS)}{_CLOSE}"


def template_source(config: PromptConfig) -> str:
    """The template's text; in English where there was no catalogue to find the language from. What writes the context,
    names in the prefix and the memory is a part of those that have them, so that others stay the same."""
    language = "en" if config.language == "auto" else config.language
    names = [f"{config.template}.{language}.jinja"]
    if config.context:
        names.append(f"{config.template}.context.jinja")
    if config.feature_names == "prefix":
        names.append(f"{config.template}.levels.jinja")
    if config.memory_tokens:
        names.append(f"{config.template}.memory.{language}.jinja")
    folder = resources.files("reshelf.prompts").joinpath("templates")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


class Parts:
    """A template read with one tokenizer.

    Args:
        tokenizer: of the model that will read the ids.
        config: says which template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        self.encoder = Encoder(tokenizer)
        environment = ImmutableSandboxedEnvironment(
            finalize=_mark, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
        )
        environment.filters["template"] = _Template
        self._macros = environment.from_string(template_source(config)).module
        self._words = lru_cache(_KEPT)(self.encoder.template)
        self.own = lru_cache(_KEPT)(self._own)
        """`own("event", "click")`: ids of a part with few values, made once. Not to be changed."""
        self.label_size = lru_cache(_KEPT)(self._label_size)
        """`label_size("brand")`: tokens of a field before its value."""
        self._is_whole = lru_cache(16 * _KEPT)(self._ends_whole)

    def ids(self, parts: Sequence[Part]) -> list[list[int]]:
        """Ids of each part. All text from outside goes through the tokenizer in one call."""
        pieces = [self._pieces(*part) for part in parts]
        texts = list(dict.fromkeys(text for piece in pieces for text, outside in piece if outside))
        read = dict(zip(texts, self.encoder.data_many(texts), strict=True))
        return [
            [i for text, outside in piece for i in (read[text] if outside else self._words(text))] for piece in pieces
        ]

    def cut(self, ids: list[int], room: int) -> list[int]:
        """The first `room` ids, or a few less so that no character is cut in two (a token can be part of one)."""
        if len(ids) <= room:
            return ids
        for end in range(room, max(room - 4, -1), -1):
            # Most tokens end with a whole character, whatever stands before them.
            if end == 0 or self._is_whole(ids[end - 1]) or self._ends_whole(*ids[:end]):
                return ids[:end]
        return ids[:room]

    def within(self, room: int, *part: Any) -> tuple[list[int], int]:
        """Ids of a part with one text from outside, of which `room` tokens are kept, and how many were cut."""
        ids: list[int] = []
        lost = 0
        for text, outside in self._pieces(*part):
            found = self.encoder.data(text) if outside else self._words(text)
            kept = self.cut(found, room) if outside else found
            ids += kept
            lost += len(found) - len(kept)
        return ids, lost

    def _ends_whole(self, *ids: int) -> bool:
        return not str(self.encoder.tokenizer.decode(list(ids))).endswith("\ufffd")

    def _label_size(self, name: str) -> int:
        text = self._text("field", name, "")
        return len(self._words(text[: text.index(_OPEN)].removesuffix(" ")))

    def _own(self, *part: Any) -> list[int]:
        return self.ids([part])[0]

    def _text(self, part: str, *values: Any) -> str:
        """One part, with marks around what comes from outside."""
        return str(getattr(self._macros, part)(*values))

    def _pieces(self, part: str, *values: Any) -> list[tuple[str, bool]]:
        """Texts that are tokenised apart, and whether each comes from outside."""
        pieces = []
        space = ""
        for n, piece in enumerate(self._text(part, *values).split(_OPEN)):
            data, _, rest = piece.partition(_CLOSE) if n else ("", "", piece)
            if data:
                pieces.append((space + data, True))
                space = ""
            elif n:
                pieces.append((space, False))
            # A space belongs to the word after it, as in running text.
            space = " " if rest.endswith(" ") else ""
            pieces.append((rest.removesuffix(" "), False))
        return [*pieces, (space, False)]

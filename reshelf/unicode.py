r"""Text that is no Unicode: half of a surrogate pair, as a title cut in the middle of an emoji leaves it.

    text, replaced = replace_half_surrogates("Mug \ud83d")       # "Mug \ufffd", 1
    line, replaced = whole_json(r'{"title": "Mug \ud83d"}')      # JSON text, before it is parsed

JSON can carry them (`"\ud83d"`) and Python strings can hold them, but no tokenizer, database or reply can. Each becomes
U+FFFD, the replacement character (Unicode, section 3.9: U+FFFD substitution).
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

DEEPEST = 50
"""Levels of lists and dicts in a request; pydantic writes replies of no more than 254."""
_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
_PAIR = 12
"""Characters of two escapes that belong together."""


def printable(text: object) -> str:
    """A text with a space for each character that a terminal would obey or cannot show."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def whole_json(line: str) -> tuple[str, int]:
    """JSON text with U+FFFD for every escaped half of a surrogate pair, and how many there were."""
    halves = 0

    def mend(found: re.Match[str]) -> str:
        nonlocal halves
        escape = found[0]
        if len(escape) in (2, _PAIR):  # \n and the like, or a whole pair
            return escape
        halves += 1
        return "\\ufffd"

    return _ESCAPES.sub(mend, line), halves


def replace_half_surrogates(value: Any) -> tuple[Any, int]:
    """A text, or lists and dicts of them, without half surrogates, and how many there were.

    What has none comes back as it is, not as a copy. Values of other types are left alone.

    Raises:
        ValueError: a value that could not be written as JSON is nested more than `DEEPEST` levels.
    """
    try:
        to_json(value)  # a few times faster than a walk, and nearly every value passes
    except PydanticSerializationError:
        return _replaced(value, 0)
    return value, 0


def _replaced(value: Any, level: int) -> tuple[Any, int]:
    if isinstance(value, str):
        # Two halves side by side are one character.
        whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole, whole.count("\ufffd") - value.count("\ufffd")
    if not isinstance(value, (dict, list, tuple)):
        return value, 0
    if level == DEEPEST:
        raise ValueError(f"lists and objects nested more than {DEEPEST} levels deep")
    parts = [_replaced(one, level + 1) for one in ([*value, *value.values()] if isinstance(value, dict) else value)]
    values, replaced = [one for one, _ in parts], sum(count for _, count in parts)
    if isinstance(value, dict):
        return dict(zip(values[: len(value)], values[len(value) :], strict=True)), replaced
    return values, replaced

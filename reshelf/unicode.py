"""Text as it must be: half a surrogate pair, which no UTF-8 can hold, becomes U+FFFD.

    text, halves = whole_text("caf\\ud83d")        # ("caf\\ufffd", 1)
    line, halves = whole_json('{"t": "\\\\ud83d"}')   # the same inside JSON, where it is written as an escape

Every door text comes in by uses them: import, command line, API and client.
"""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
_PAIR = 12
"""Characters of two escapes that belong together."""


def whole_text(text: str) -> tuple[str, int]:
    """The text with U+FFFD for every half of a surrogate pair, and how many there were."""
    return (text, 0) if text.isascii() else _HALF.subn("\ufffd", text)


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

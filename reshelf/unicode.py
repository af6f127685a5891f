r"""JSON text as it must be: half a surrogate pair, which no UTF-8 can hold, becomes U+FFFD before JSON is parsed.

    line, halves = whole_json(line)        # 1 where a lone \ud83d was written as an escape

`inference.half_surrogates` does the same to values that are parsed already.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
_PAIR = 12
"""Characters of two escapes that belong together."""


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

"""A hook of mkdocs: links out of docs/, which a code host follows, have no page here and become the name of the file.

`[the leaderboard](../benchmarks/QUALITY.md)` is shown as "the leaderboard (`benchmarks/QUALITY.md`)". That the file is
there is checked first: a link that leads nowhere is a warning, and with it the build fails.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)(?:#[^)]*)?\)")
log = logging.getLogger("mkdocs.hooks.links_out")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""

    def name(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        if not (ROOT / target).exists():
            log.warning("%s links to %s, which is not there", page.file.src_uri, target)
        return text if text.strip("`") == target else f"{text} (`{target}`)"

    return LINK.sub(name, markdown)

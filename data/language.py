"""The language of a catalogue, found from its titles; prompts, reports and explanations follow it.

catalogue_language(item.title for item in data.items.values())    # "zh"
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Language = Literal["en", "zh"]
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile("[\u3041-\u30ff]")


def catalogue_language(titles: Iterable[str]) -> Language:
    """`zh` where most titles have Chinese characters and none of the kana that tell Japanese, else `en`."""
    chinese = [bool(_HAN.search(title)) and not _KANA.search(title) for title in titles]
    return "zh" if 2 * sum(chinese) > len(chinese) else "en"

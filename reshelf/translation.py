"""Text for people in the language of a model: gettext over `translations/LANGUAGE.po`, read as it is written.

    text = translations("zh")
    text.gettext("First stage")        # 首阶段
    text.ngettext("{n} event", "{n} events", 3).format(n=3)

English is in the code. A test finds what a catalogue lacks, and what it has too much.
"""

from __future__ import annotations

from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from io import BytesIO


@cache
def translations(language: str) -> NullTranslations:
    """What reports, explanations and pages say in a language of `PromptConfig`."""
    if language in ("en", "auto"):
        return NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = BytesIO()
    with files("reshelf").joinpath("translations", f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


def gettext_noop(text: str) -> str:
    """Mark text that is translated where it is shown."""
    return text

"""Translations: every text that the code marks has one, none is left over, and placeholders are the same."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

from reshelf.data.signals import READS
from reshelf.data.signals.list_outcomes import OUTCOMES
from reshelf.translation import translations
from tests.reshelf.test_house import ROOT, relative, shipped

CATALOGUES = sorted((ROOT / "reshelf" / "translations").glob("*.po"))
MARKS = ("_", "gettext", "ngettext", "gettext_noop")
Texts = tuple[str, ...]


def marked() -> dict[Texts, str]:
    """Every text that is shown in the language of a model, one or singular and plural, and where."""
    found = {texts: f"{relative(path)}:{line}" for path in shipped(".py") for texts, line in in_python(path)}
    for path in shipped(".html"):
        with path.open("rb") as file:
            for line, _, texts, _ in babel_extract(file, MARKS, [], {}):  # type: ignore[no-untyped-call]
                found[(texts,)] = f"{relative(path)}:{line}"
    signals = (*READS, *OUTCOMES, "first_stage", "teacher")
    return found | {(name.replace("_", " "),): "the name of a signal" for name in signals}


def in_python(path: Path) -> Iterator[tuple[Texts, int]]:
    """Arguments of calls that mark texts; also inside f-strings, which babel does not read."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)) if "gettext" in text and "tests" not in path.parts else ():
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if name in MARKS and texts:
                yield tuple(str(text) for text in texts), node.lineno


def fields(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("path", CATALOGUES, ids=relative)
def test_a_catalogue_is_complete_and_says_the_same(path: Path) -> None:
    with path.open("rb") as file:
        catalogue: Catalog = read_po(file, locale=path.stem, abort_invalid=True)
    wanted = marked()
    assert len(wanted) > 100
    entries = {(one.id,) if isinstance(one.id, str) else tuple(one.id): one for one in catalogue if one.id}
    lacking = {where: texts for texts, where in wanted.items() if texts not in entries}
    assert lacking == {}, f"texts without an entry in {path.name}"
    assert sorted(set(entries) - set(wanted)) == [], f"entries of {path.name} that nothing shows any more"
    assert [one.id for one in catalogue.obsolete.values()] == []
    for texts, entry in entries.items():
        strings = [entry.string] if isinstance(entry.string, str) else list(entry.string)
        assert all(strings), f"{texts} has no translation"
        assert not entry.fuzzy, f"{texts} is marked fuzzy"
        for translated in strings:
            assert fields(translated) == fields(texts[-1]), f"{texts}: other placeholders than in {translated!r}"


def test_both_ways_to_say_english_say_what_the_code_says() -> None:
    assert {translations(language).gettext("First stage") for language in ("en", "auto")} == {"First stage"}
    chinese = translations("zh")
    assert chinese.gettext("First stage") == "首阶段排序"
    assert chinese.ngettext("{range} event", "{range} events", 1).format(range=1) == "1 次行为"

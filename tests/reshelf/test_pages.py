"""README, README.zh.md and docs/: links and anchors, public names, both READMEs say the same, the pages build."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    p
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "deploy/*.md", "finetune/bases/*/*.md")
    for p in ROOT.glob(pattern)
)
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
BLOCK = re.compile(r"^```\w*\n(.*?)^```|((?:^ {4}[^\n]*\n|^\n(?= {4}))+)", re.MULTILINE | re.DOTALL)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """Of the headings, as code hosts make them: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(
        r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(path: Path) -> list[str]:
    found = []
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        to = path.parent / target if target else path
        if not to.exists() or (anchor and anchor not in anchors(to.read_text(encoding="utf-8"))):
            found.append(f"{target}#{anchor}" if anchor else target)
    return found


def blocks(text: str) -> list[str]:
    """Code blocks, fenced or indented, without the comments, which are translated."""
    found = ["".join(match.groups(default="")) for match in BLOCK.finditer(text)]
    return ["\n".join(re.sub(r"\s+#.*", "", line).strip() for line in block.strip().splitlines()) for block in found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_and_anchors_lead_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_a_dead_link_or_anchor_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One & two\n[a](#one--two) [b](page.md#one--two) [c](other.md) [d](#three) ![e](no.svg)\n")
    assert dead_links(page) == ["other.md", "#three", "no.svg"]


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if "```python" in p.read_text(encoding="utf-8")], ids=relative)
def test_python_examples_import_public_names(path: Path) -> None:
    import reshelf

    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "reshelf":
                assert {alias.name for alias in node.names} <= set(reshelf.__all__)


class TestBothReadmes:
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    chinese = (ROOT / "README.zh.md").read_text(encoding="utf-8")

    def test_they_have_the_same_commands_and_code_in_the_same_order(self) -> None:
        ours, theirs = ([b for b in blocks(text) if not b.startswith("[ ")] for text in (self.english, self.chinese))
        assert len(ours) >= 6
        assert "make demo\nmake test" in ours
        assert any(block.startswith("reshelf data import") for block in ours)
        assert ours == theirs

    def test_they_link_to_the_same_files_in_the_same_order(self) -> None:
        ours, theirs = ([to for to, _ in LINK.findall(text)] for text in (self.english, self.chinese))
        assert ours[0] == "README.zh.md"
        assert theirs[0] == "README.md"
        assert ours[1:] == theirs[1:]

    def test_they_give_the_same_figures(self) -> None:
        ours, theirs = (Counter(re.findall(r"\d+\.\d+", text)) for text in (self.english, self.chinese))
        assert len(ours) > 30
        assert ours == theirs

    def test_they_have_the_same_sections(self) -> None:
        assert self.english.count("\n## ") == self.chinese.count("\n## ")


class TestTheBuild:
    def build(self, config: Path, out: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mkdocs", "build", "--config-file", config, "--site-dir", out]
        return subprocess.run(command, capture_output=True, text=True)

    def test_every_page_is_built(self, tmp_path: Path) -> None:
        done = self.build(ROOT / "mkdocs.yml", tmp_path)
        assert done.returncode == 0, done.stderr
        assert {page.with_suffix(".html").name for page in PAGES} <= {page.name for page in tmp_path.glob("*.html")}

    @pytest.mark.parametrize("link", ["[a](no.md)", "[a](data.md#no)", "[a](../no.md)", "[a](../no/folder)"])
    def test_a_dead_link_stops_it(self, link: str, tmp_path: Path) -> None:
        for entry in (
            "mkdocs.yml",
            *(p.name for p in ROOT.iterdir() if not p.name.startswith(".") and p.name != "docs"),
        ):
            if not (tmp_path / entry).exists():
                (tmp_path / entry).symlink_to(ROOT / entry)
        (tmp_path / "mkdocs.yml").unlink()
        shutil.copy(ROOT / "mkdocs.yml", tmp_path)
        shutil.copytree(ROOT / "docs", tmp_path / "docs")
        with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
            page.write(f"\n{link}\n")
        done = self.build(tmp_path / "mkdocs.yml", tmp_path / "out")
        assert done.returncode == 1, done.stderr
        assert "index.md" in done.stderr

"""The house rules: one-way imports, small files, every shipped YAML loads, the README tells the truth."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reshelf.cli import COMMANDS, load
from reshelf.config import parse
from reshelf.data.importing.mapping_file import load_mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "data", "metrics", "prompts", "modeling", "finetune", "inference", "evaluation", "reshelf", "benchmarks", "tests",
    "examples",
]  # fmt: skip
COMMAND = re.compile(r"^(?:#\s*|\s*)?reshelf ((?:data )?[a-z]+)((?: +[^\s#`]+)*)", re.MULTILINE)


def shipped(ending: str) -> list[Path]:
    """Files of the checkout; the links in reshelf/ are not followed, so that each file comes once."""
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob(f"*{ending}") if not p.is_symlink())


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", shipped(".py"), ids=relative)
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < 400, "a file has one subject; divide it"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the first line of a module says what it is for"


# Those in finetune/accelerate are for `accelerate launch`, those in benchmarks/quality for `make quality`, those in
# benchmarks/gpu for `python -m benchmarks.gpu`; test_launch.py, test_quality.py and test_gpu.py parse them.
@pytest.mark.parametrize(
    "path",
    [p for p in shipped(".yaml") if p.parent.name not in ("mappings", "accelerate", "quality", "gpu")],
    ids=relative,
)
def test_a_shipped_config_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first comment holds the command that uses it; that command must parse, with every key and flag known."""
    monkeypatch.chdir(ROOT)
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    uses = [found for found in COMMAND.finditer(head) if relative(path) in found[2]]
    assert uses, f"the comment at the top must show a command with --config {relative(path)}"
    for found in uses:
        _parse(found[1], found[2])


@pytest.mark.parametrize("path", [p for p in shipped(".yaml") if p.parent.name == "mappings"], ids=relative)
def test_a_shipped_mapping_loads(path: Path) -> None:
    load_mapping(path)


def _parse(command: str, arguments: str) -> None:
    found = COMMANDS[command]
    parse(load(found.config), found.flags(shlex.split(arguments)))


def test_no_two_classes_share_a_name() -> None:
    """In the product and its benchmarks; an underscore makes no difference."""
    found: dict[str, list[str]] = {}
    for path in shipped(".py"):
        if path.relative_to(ROOT).parts[0] != "tests":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name.lstrip("_"), []).append(relative(path))
    assert len(found) > 200
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


class TestOneWayImports:
    def lint(self, root: Path) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True)

    def test_the_contract_is_kept(self) -> None:
        done = self.lint(ROOT)
        assert done.returncode == 0, done.stdout

    def test_the_contract_sees_through_the_links(self, tmp_path: Path) -> None:
        """A rule that never says no is no rule: an import up the list, in a copy of the tree, must be found."""
        for package in PACKAGES[:8]:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        (tmp_path / "data" / "upward.py").write_text("import reshelf.modeling\n")
        done = self.lint(tmp_path)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "reshelf.data.upward -> reshelf.modeling" in done.stdout


def test_the_version_is_said_once() -> None:
    import tomllib

    import reshelf

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == reshelf.__version__
    assert f"## {reshelf.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

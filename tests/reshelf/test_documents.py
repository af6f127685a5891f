"""Documents tell the truth: every `reshelf` command parses, every usage line calls what there is, every link leads on.

Each reader here counts what it should have found by a plainer way of looking, and fails when it found less.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import reshelf
from reshelf.cli import COMMANDS, Command, load
from reshelf.config import parse
from reshelf.errors import InputError
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.losses.kl import kl
from reshelf.finetune.losses.margin_mse import margin_mse
from reshelf.finetune.losses.teacher_bce import teacher_bce
from reshelf.finetune.losses.weighted_sum import LossSum
from reshelf.finetune.run import LOSSES
from reshelf.inference.engines.engine import Engine
from reshelf.inference.explanation import Explanation
from reshelf.metrics.auc import auc, auc_by_user
from reshelf.metrics.bootstrap import interval
from reshelf.metrics.mrr import reciprocal_rank
from reshelf.metrics.ndcg import ndcg
from reshelf.metrics.ordering import best_first, ranks, unranked
from reshelf.metrics.paired import paired
from reshelf.metrics.recall import recall
from reshelf.modeling.calibration import Calibration
from reshelf.prompts.builder import PromptBuilder

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["data", "metrics", "prompts", "modeling", "finetune", "inference", "evaluation", "reshelf"]
MODULES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py") if not p.is_symlink())
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("deploy/*.md")]
    + [*ROOT.glob("examples/*/*.md"), *ROOT.glob("examples/*/Makefile")]
    + [*ROOT.glob("Makefile"), *ROOT.glob("deploy/*.yaml")]
    + [p for package in PACKAGES for p in (ROOT / package).rglob("*.yaml") if not p.is_symlink()]
    + [p for package in PACKAGES for p in (ROOT / package).rglob("*.md") if not p.is_symlink()]
)
NAMES = "|".join(sorted(COMMANDS, key=len, reverse=True)).replace(" ", "[ ]")
COMMAND = re.compile(
    rf"""(?:^(?:\#[^`\n]*?|\s*(?:test\ .*\|\|\ )?)(?:\$\(RUN\)/)?reshelf[ ](?P<line>(?:data[ ])?[a-z]+\b[^\n]*)$)
       |(?:`reshelf[ ](?P<inline>(?:{NAMES})\b[^`]*)`)
       |(?:reshelf\.cli[ ](?P<module>(?:{NAMES})\b[^\n]*))""",
    re.MULTILINE | re.VERBOSE,
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    """What people read: a document, or the docstrings of a module; lines that go on are one line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
        text = "\n\n".join(filter(None, (ast.get_docstring(node) for node in nodes)))
    return re.sub(r"\\\n\s*#?", " ", text)


def commands_of(text: str) -> list[list[str]]:
    """The words of every command in a text, without `reshelf`, comments, redirections and the dots of an example."""
    found = []
    for match in COMMAND.finditer(text):
        words = (match["line"] or match["inline"] or match["module"]).replace("$(DATA)", "../shared/data")
        words = re.split(r"\s+#|\s[>|]\s|…", words)[0]
        found.append(shlex.split(words))
    return found


@pytest.mark.parametrize("path", [*DOCUMENTS, *MODULES], ids=relative)
def test_every_command_parses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = text_of(path)
    found = commands_of(text)
    # The plain way: whatever follows the word `reshelf ` on its line has a flag in it.
    pieces = [piece for line in text.splitlines() for piece in re.split(r"\breshelf(?:\.cli)? ", line)[1:]]
    plain = [piece for piece in pieces if re.match(r"[a-z]+ [^`]*?--[a-z]", piece)]
    with_flags = [words for words in found if any(word.startswith("--") for word in words)]
    assert len(with_flags) >= len(plain), f"of {plain} only {with_flags} were read"
    for words in found:
        name = " ".join(words[: 2 if " ".join(words[:2]) in COMMANDS else 1])
        assert name in COMMANDS, f"there is no `reshelf {name}`"
        rest = words[len(name.split()) :]
        if "--help" not in rest and rest[-1:] != ["--start"]:
            _must_parse(COMMANDS[name], rest)


def _must_parse(command: Command, words: list[str]) -> None:
    """A config that a run writes first is left out, and what it would have said, or a mention leaves out, may lack."""
    if "--config" in words and not (ROOT / words[words.index("--config") + 1]).exists():
        at = words.index("--config")
        assert words[at + 1].startswith(("runs/", "/app/")) or words[at + 1] == "config.yaml"
        words = words[:at] + words[at + 2 :]
    try:
        parse(load(command.config), command.flags(words))
    except InputError as error:
        if not str(error).endswith("is missing; give it as a flag or in the --config file"):
            raise


def usage_of(path: Path) -> Iterator[ast.stmt]:
    """The Python statements in a module's docstring: every line or indented block that parses and does something."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for block in re.split(r"\n\s*\n", doc)[1:]:
        try:
            statements = ast.parse(textwrap.dedent(block)).body
        except SyntaxError:
            continue
        yield from (one for one in statements if isinstance(one, ast.Assign | ast.With | ast.Expr | ast.ImportFrom))


def objects_in(path: Path) -> dict[str, Any]:
    module = importlib.import_module("reshelf." + ".".join(path.relative_to(ROOT).with_suffix("").parts))
    return vars(module)


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != ROOT / "reshelf"], ids=relative)
def test_every_call_in_a_usage_line_is_one_the_function_takes(path: Path) -> None:
    """Names that the module defines are called as they are declared: no argument that is gone, none that is missing."""
    known = objects_in(path)
    for statement in usage_of(path):
        for call in (node for node in ast.walk(statement) if isinstance(node, ast.Call)):
            target = _target(call.func, known)
            if target is None or any(isinstance(one, ast.Starred) for one in call.args):
                continue
            keywords = {one.arg: None for one in call.keywords if one.arg}
            arguments = [None for one in call.args if not (isinstance(one, ast.Constant) and one.value is ...)]
            if len(arguments) < len(call.args):
                continue
            try:
                inspect.signature(target).bind(*arguments, **keywords)
            except TypeError as error:
                pytest.fail(f"{relative(path)}: {ast.unparse(call)}: {error}")


def _target(func: ast.expr, known: dict[str, Any]) -> Any:
    """The function that a usage line calls, where it is the module's own or one it imports from Reshelf."""
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        owner = known.get(func.value.id)
        if inspect.isclass(owner) and owner.__module__.startswith("reshelf"):
            assert hasattr(owner, func.attr), f"{owner.__name__} has no {func.attr}"
            return getattr(owner, func.attr)
        return None
    found = known.get(func.id) if isinstance(func, ast.Name) else None
    return found if str(getattr(found, "__module__", "")).startswith("reshelf") else None


def test_usage_lines_are_found_and_stale_ones_would_be_seen() -> None:
    """At least one in four of the modules that are more than a few lines shows a call of its own that is checked."""
    checked = 0
    for path in MODULES:
        if path.parent != ROOT / "reshelf":
            known = objects_in(path)
            calls = [node for one in usage_of(path) for node in ast.walk(one) if isinstance(node, ast.Call)]
            checked += any(_target(call.func, known) is not None for call in calls)
    assert checked > len(MODULES) / 4


NEED_A_MODEL = ("inference/reranker.py", "inference/client.py")
"""Their examples run in tests/inference/serving/test_examples.py, beside a model and a server."""
SHOWN = [p for p in MODULES if ">>>" in p.read_text(encoding="utf-8")]


def run_examples(path: Path, instead: Mapping[str, str] = MappingProxyType({})) -> None:
    """Those of a module; `instead`: what stands for a text that they hold."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts if parts[0] == "reshelf" else ("reshelf", *parts)))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder().find(module):
        for example in test.examples:
            for text, other in instead.items():
                example.source = example.source.replace(text, other)
        runner.run(test)
    result = runner.summarize()
    # As many as there are lines that begin with the prompt: none in a place where doctest does not look.
    assert result.attempted == len(re.findall(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert result.failed == 0


@pytest.mark.parametrize("path", [p for p in SHOWN if relative(p) not in NEED_A_MODEL], ids=relative)
def test_the_examples_in_docstrings_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run_examples(path)


PUBLIC = [
    *(getattr(reshelf, name) for name in reshelf.__all__),
    *(PromptBuilder, FinetuneConfig, Explanation, Engine, Calibration),
    *(LossSum, *LOSSES.values(), kl, margin_mse, teacher_bce),
    *(auc, auc_by_user, ndcg, recall, reciprocal_rank, best_first, ranks, unranked, interval, paired),
]
"""Public names, losses and metrics: what people call."""


@pytest.mark.parametrize("one", PUBLIC, ids=lambda one: str(one.__name__))
def test_what_people_call_shows_an_example(one: Any) -> None:
    assert ">>> " in (one.__doc__ or "")

"""What importing costs: nothing heavy for the front door, and nothing optional for any module."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reshelf

HEAVY = ("torch", "transformers", "datasets", "numpy", "pyarrow", "pydantic")
OPTIONAL = ("vllm", "sentence_transformers")
"""Extras: a module may use them inside a function, never when it is imported."""

IMPORT_ALL = """
import importlib, json, sys
names, optional = json.loads(sys.argv[1])
trouble = []
for name in names:
    importlib.import_module(name)
    if loaded := sorted(set(optional) & set(sys.modules)):
        trouble.append(f"{name} loads {loaded}")
        break
print(json.dumps(trouble))
"""
NAMES = [m.name for m in pkgutil.walk_packages(reshelf.__path__, "reshelf.", onerror=lambda name: None)]


def run_python(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_without_extras() -> None:
    assert {"reshelf.data.dataset_folder", "reshelf.prompts.builder"} <= set(NAMES)
    kernels = "reshelf.modeling.kernels"  # Triton comes with torch for GPUs alone, and only they load it
    names = [name for name in NAMES if name != kernels]
    assert json.loads(run_python(IMPORT_ALL, json.dumps([names, OPTIONAL]))) == []


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that happen when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from imports(node)


def packages_of(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(2, len(parts))}


def test_no_imports_go_in_a_circle() -> None:
    """Else a module could not be imported on its own. Who imports a module imports its packages before it."""
    graph = {}
    for name in NAMES:
        file = importlib.util.find_spec(name).origin  # type: ignore[union-attr]
        wanted: set[str] = set()
        for node in imports(ast.parse(Path(str(file)).read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                inner = [f"{node.module}.{module}" for module in modules]
                modules = [module if module in NAMES else str(node.module) for module in inner]
            wanted |= {module for module in modules if module in NAMES}
        graph[name] = wanted | set().union(*map(packages_of, wanted)) - packages_of(name) - {name}
    assert "reshelf.data.schema" in graph["reshelf.data.dataset_folder"]
    graphlib.TopologicalSorter(graph).prepare()


def test_import_reshelf_is_light() -> None:
    found = run_python(f"import reshelf, sys; print(sorted(set({HEAVY}) & set(sys.modules)))")
    assert found == "[]\n"


def test_import_reshelf_loads_only_itself() -> None:
    """Whatever the machine, an import costs what it loads: two of our files, and of the standard library a few."""
    found = run_python("import sys; before = set(sys.modules); import reshelf; print(*(set(sys.modules) - before))")
    ours = {name for name in found.split() if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours == {"reshelf"}


def test_reading_a_data_set_needs_no_torch() -> None:
    code = "import sys; from reshelf import Item, RankingList, load_dataset_folder; print('torch' in sys.modules)"
    assert run_python(code) == "False\n"


@pytest.mark.parametrize("name", reshelf.__all__)
def test_public_name(name: str) -> None:
    assert getattr(reshelf, name).__name__ == name
    assert name in dir(reshelf)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rerankr'"):
        reshelf.Rerankr  # noqa: B018

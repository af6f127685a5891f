"""What importing costs: nothing heavy for the front door, and nothing optional for any module."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

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
"""

# Each module again with none of ours loaded before it, which is how a circle of imports shows itself. The libraries
# stay loaded and every try is a fork of this process, or the test would take minutes.
THEN_EACH_ALONE = """
import os
for name in [n for n in sys.modules if n.startswith("reshelf.")]:
    del sys.modules[name]
for name in names:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        trouble.append(f"{name} cannot be imported on its own")
print(json.dumps(trouble))
"""


def run_python(code: str, *args: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_alone_and_without_extras() -> None:
    names = [m.name for m in pkgutil.walk_packages(reshelf.__path__, "reshelf.", onerror=lambda name: None)]
    assert "reshelf.data.dataset_folder" in names
    assert "reshelf.prompts.builder" in names
    names.remove("reshelf.modeling.kernels")  # Triton comes with torch for GPUs alone, and only they load it
    assert json.loads(run_python(IMPORT_ALL + THEN_EACH_ALONE, json.dumps([names, OPTIONAL]))) == []


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

"""Where the package's folders are. Everything else about the build is in pyproject.toml.

The rooms stand at the top of the repository and are imported as `reshelf.data`, `reshelf.prompts`, … The links in
`reshelf/` do that for a checkout; a build does not need them, so that it is whole where they could not be made.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOMS = ("data", "metrics", "prompts", "modeling", "finetune", "inference", "evaluation")
SHIPPED = ["**/*.yaml", "**/*.jinja", "**/*.html", "**/*.json", "**/*.safetensors", "**/*.md"]

missing = [room for room in ROOMS if not (Path(__file__).parent / room / "__init__.py").is_file()]
if missing:
    raise SystemExit(f"reshelf cannot be built: {missing[0]}/__init__.py is not there; build from a whole checkout")

setup(
    packages=["reshelf"]
    + [f"reshelf.{room}" for room in ROOMS]
    + [f"reshelf.{room}.{package}" for room in ROOMS for package in find_namespace_packages(room)],
    package_dir={f"reshelf.{room}": room for room in ROOMS},
    package_data={"reshelf": ["py.typed", "translations/*.po"]} | {f"reshelf.{room}": SHIPPED for room in ROOMS},
)

"""Where the package's folders are. Everything else about the build is in pyproject.toml.

The packages sit at the top of the repository and are imported as `reshelf.data`, `reshelf.prompts`, … The links in
`reshelf/` do that for a checkout; a build does not need them, so that it is whole where they could not be made.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_namespace_packages, setup

PACKAGES = ("data", "metrics", "prompts", "modeling", "finetune", "inference", "evaluation")
SHIPPED = ["**/*.yaml", "**/*.jinja", "**/*.html", "**/*.json", "**/*.safetensors", "**/*.md"]

missing = [package for package in PACKAGES if not (Path(__file__).parent / package / "__init__.py").is_file()]
if missing:
    raise SystemExit(f"reshelf cannot be built: {missing[0]}/__init__.py is not there; build from a whole checkout")

setup(
    packages=["reshelf"]
    + [f"reshelf.{package}" for package in PACKAGES]
    + [f"reshelf.{package}.{inner}" for package in PACKAGES for inner in find_namespace_packages(package)],
    package_dir={f"reshelf.{package}": package for package in PACKAGES},
    package_data={"reshelf": ["py.typed", "translations/*.po"]}
    | {f"reshelf.{package}": SHIPPED for package in PACKAGES},
)

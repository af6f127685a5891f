"""Reads a mapping file and says what is wrong with it in one sentence.

mapping = load_mapping("shop.yaml")
mapping = load_mapping("amazon_beauty_search", {"build.train_candidates": 20})
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from reshelf.data.importing import mapping as vocabulary
from reshelf.data.importing.mapping import ListsTable, Mapping, PairsTable
from reshelf.errors import InputError

SHIPPED = Path(__file__).parent.parent / "mappings"


def load_mapping(path: Path | str, changes: dict[str, Any] | None = None) -> Mapping:
    """Read a mapping file, or one of the shipped ones by its bare name (`amazon_beauty_search`).

    `changes` overrides single values by dotted key: `{"build.train_candidates": 32}`.

    Raises:
        InputError: no such file, not YAML, or a key or value that is not understood; names the key.
    """
    file = Path(path)
    if not file.is_file() and (SHIPPED / f"{path}.yaml").is_file():
        file = SHIPPED / f"{path}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml")))
        raise InputError(f"mapping {str(path)!r} is neither a file nor one of the shipped mappings ({names})")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected keys such as items and events; see data/mappings for examples")
    for key, value in (changes or {}).items():
        _change(tree, key.split("."), value, key)
    tree = _grades_as_text(tree)
    try:
        mapping = TypeAdapter(Mapping).validate_python(tree)
    except ValidationError as error:
        raise InputError(f"{file}, {_explain(error)}") from error
    _check(mapping, file)
    return mapping


def _change(tree: Any, keys: list[str], value: Any, full: str) -> None:
    for i, key in enumerate(keys):
        index: Any = int(key) if isinstance(tree, list) and key.isdigit() and int(key) < len(tree) else key
        if not isinstance(tree, list | dict) or (isinstance(tree, list) and not isinstance(index, int)):
            raise InputError(f"change {full!r}: there is nothing called {key!r} in the mapping")
        if i == len(keys) - 1:
            tree[index] = value
        else:
            tree = tree[index] if isinstance(tree, list) else tree.setdefault(index, {})


def _grades_as_text(tree: dict[str, Any]) -> dict[str, Any]:
    """YAML reads `1: 0` with an integer key; raw labels are compared as text."""
    for part in ("lists", "pairs"):
        for table in tree.get(part) or []:
            if isinstance(table, dict) and isinstance(table.get("grades"), dict):
                table["grades"] = {str(k): v for k, v in table["grades"].items()}
    events = tree.get("events")
    if isinstance(events, dict) and isinstance(events.get("kinds"), dict):
        events["kinds"] = {str(k): v for k, v in events["kinds"].items()}
    return tree


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"key {key}: unknown{_suggest(str(first['loc'][-1]))}"
    if first["type"].startswith("missing"):
        return f"key {key}: is needed and not there"
    return f"key {key}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"


def _suggest(name: str) -> str:
    kinds = [
        kind for kind in vars(vocabulary).values() if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")
    ]
    near = difflib.get_close_matches(name, {f.name for kind in kinds for f in fields(kind)}, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _check(mapping: Mapping, file: Path) -> None:
    """What types cannot say."""
    if not (mapping.lists or mapping.pairs or mapping.build):
        raise InputError(f"{file}: there is nothing to make lists from; give lists, pairs or build")
    if mapping.build and not mapping.events:
        raise InputError(f"{file}, key build: lists are built from events, and there is no events table")
    if mapping.build and mapping.build.query == "item_queries" and not mapping.item_queries:
        raise InputError(f"{file}, key build.query: item_queries needs an item_queries table")
    for part, tables in (("lists", mapping.lists), ("pairs", mapping.pairs)):
        for i, table in enumerate(tables):
            where = f"{file}, key {part}.{i}"
            if table.query_id and not (table.query or mapping.queries):
                raise InputError(f"{where}.query_id: needs a queries table, or a query column beside it")
            if table.thresholds and (len(table.thresholds) > 3 or table.thresholds != sorted(table.thresholds)):
                raise InputError(f"{where}.thresholds: give up to three numbers, smallest first")
            bad = [v for v in table.grades.values() if v not in (0, 1, 2, 3)]
            if bad:
                raise InputError(f"{where}.grades: {bad[0]} is not a grade; use 0, 1, 2 or 3")
            if isinstance(table, ListsTable) and bool(table.labels) == bool(table.target):
                raise InputError(f"{where}: give either labels or target")
            if isinstance(table, PairsTable) and not table.label and not mapping.events:
                raise InputError(f"{where}: give a label column, or an events table that says what happened")
    if not 0 <= mapping.split.valid + mapping.split.test < 1:
        raise InputError(f"{file}, key split: valid and test together must be below 1")

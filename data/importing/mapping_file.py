"""Reads a mapping file and says what is wrong with it in one sentence.

mapping = load_mapping("shop.yaml")
mapping = load_mapping("amazon_beauty_search", {"build.train_candidates": 20})
shipped()["opensearch_ubi"]          # what it is for, in one line
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import TypeAdapter, ValidationError

from reshelf.data.importing import mapping as vocabulary
from reshelf.data.importing.mapping import ListColumns, ListsTable, Mapping, PairsTable, Table
from reshelf.errors import InputError
from reshelf.yaml_loader import UniqueKeyLoader

SHIPPED = Path(__file__).parent.parent / "mappings"


class _Loader(UniqueKeyLoader):
    """YAML 1.2 words: `yes`, `no`, `on` and `off` are text, as they are in a shop's tables."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shipped() -> dict[str, str]:
    """The shipped mappings and what each is for (its `about`)."""
    return {
        file.stem: str(yaml.load(file.read_text(encoding="utf-8"), _Loader).get("about", ""))
        for file in sorted(SHIPPED.glob("*.yaml"))
    }


def find_mapping(path: Path | str) -> Path:
    """The mapping file of that path, or the shipped one of that bare name.

    Raises:
        InputError: there is none.
    """
    for file in (Path(path), SHIPPED / f"{path}.yaml"):
        if file.is_file():
            return file
    names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml")))
    raise InputError(f"mapping {str(path)!r} is neither a file nor one of the shipped mappings ({names})")


def load_mapping(path: Path | str, changes: dict[str, Any] | None = None) -> Mapping:
    """Read a mapping file, or one of the shipped ones by its bare name (`amazon_beauty_search`).

    `changes` overrides single values by dotted key: `{"build.train_candidates": 32}`.

    Raises:
        InputError: no such file, not YAML, or a key or value that is not understood; names the key.
    """
    file = find_mapping(path)
    try:
        tree = yaml.load(file.read_text(encoding="utf-8-sig"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected keys such as items and events; see data/mappings for examples")
    for key, value in (changes or {}).items():
        _change(tree, key.split("."), value, key)
    _normalise(tree)
    try:
        mapping = _schema().validate_python(tree)
    except ValidationError as error:
        raise InputError(f"{file}, {_explain(error)}") from error
    _check(mapping, file)
    return mapping


@cache
def _schema() -> TypeAdapter[Mapping]:
    return TypeAdapter(Mapping)


def tables(mapping: Mapping) -> Iterator[tuple[str, Table]]:
    """Every table of a mapping with its name in messages: `items`, `events`, `pairs.0`, …"""
    for name in ("items", "parents", "queries", "item_queries"):
        if (table := getattr(mapping, name)) is not None:
            yield name, table
    for number, events in enumerate(mapping.events):
        yield events_name(mapping, number), events
    for name in ("lists", "pairs"):
        for number, table in enumerate(getattr(mapping, name)):
            yield f"{name}.{number}", table


def events_name(mapping: Mapping, number: int) -> str:
    """`events`, or `events.1` where there are several tables of them."""
    return "events" if len(mapping.events) == 1 else f"events.{number}"


def _change(tree: Any, keys: list[str], value: Any, full: str) -> None:
    for i, key in enumerate(keys):
        index: Any = int(key) if isinstance(tree, list) and key.isdigit() and int(key) < len(tree) else key
        if not isinstance(tree, list | dict) or (isinstance(tree, list) and not isinstance(index, int)):
            raise InputError(f"change {full!r}: there is nothing called {key!r} in the mapping")
        if i == len(keys) - 1:
            tree[index] = value
        else:
            tree = tree[index] if isinstance(tree, list) else tree.setdefault(index, {})


def _normalise(tree: dict[str, Any]) -> None:
    """What YAML and older mapping files write differently from the dataclasses."""
    for part in ("events", "lists", "pairs"):
        if isinstance(tree.get(part), dict):
            tree[part] = [tree[part]]
        for table in tree.get(part) or []:
            if not isinstance(table, dict):
                continue
            if "outcome_hours" in table:
                table["window_hours"] = table.pop("outcome_hours")
            for name in ("grades", "kinds", "undo"):  # YAML reads `1: 0` with an integer key
                if isinstance(table.get(name), dict):
                    table[name] = {word(key): value for key, value in table[name].items()}
    split = tree.get("split")
    if isinstance(split, dict):
        for name in ("valid_from", "test_from"):  # YAML reads a day as a date
            if split.get(name) is not None:
                split[name] = str(split[name])


def word(value: Any) -> str:
    """A YAML value as the text that a table holds: true, no and null in lower case."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    places = [str(part) for part in first["loc"] if part not in ("str", "list[str]", "dict[str,int]")]
    key = ".".join(places)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"key {key}: unknown{_suggest(str(first['loc'][-1]))}"
    if first["type"].startswith("missing"):
        return f"key {key}: is needed and not there"
    if places[-1:] == ["label"] and isinstance(first["input"], list):
        return f"key {key}: give a grade for each of several label columns, such as {{clicked: 1, bought: 3}}"
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
    for name, table in tables(mapping):
        where = f"{file}, key {name}"
        if bool(table.file) == bool(table.sql):
            raise InputError(f"{where}: give either file or sql")
        _check_zone(table.timezone or "UTC", f"{where}.timezone")
        grades: dict[str, int] = getattr(table, "grades", {})
        label = getattr(table, "label", None)
        for grade in (*grades.values(), *(label.values() if isinstance(label, dict) else ())):
            if grade not in (0, 1, 2, 3):
                raise InputError(f"{where}.grades: {grade} is not a grade; use 0, 1, 2 or 3")
        if isinstance(table, ListColumns):
            _check_lists(table, mapping, where)
    if len({bool(events.time) for events in mapping.events}) > 1:
        raise InputError(f"{file}, key events: one table has times and another has none; give all of them a time")
    if len(mapping.events) > 1 and not mapping.events[0].time:
        raise InputError(f"{file}, key events: several tables need times to say what came first; map events.0.time")
    if not 0 <= mapping.split.valid + mapping.split.test < 1:
        raise InputError(f"{file}, key split: valid and test together must be below 1")


def _check_lists(table: ListColumns, mapping: Mapping, where: str) -> None:
    if table.query_id and not (table.query or mapping.queries):
        raise InputError(f"{where}.query_id: needs a queries table, or a query column beside it")
    if table.window_hours < 0 or table.skew_seconds < 0:
        raise InputError(f"{where}: window_hours and skew_seconds must not be negative")
    if table.thresholds and (len(table.thresholds) > 3 or table.thresholds != sorted(table.thresholds)):
        raise InputError(f"{where}.thresholds: give up to three numbers, smallest first")
    if isinstance(table, ListsTable):
        if table.labels and table.target:
            raise InputError(f"{where}: give either labels or target")
        if not (table.labels or table.target or mapping.events):
            raise InputError(f"{where}: give labels, target, or an events table that says what happened")
    if isinstance(table, PairsTable) and not table.label and not mapping.events:
        raise InputError(f"{where}: give a label column, or an events table that says what happened")


def _check_zone(name: str, where: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{where}: {name!r} is no time zone; give a name such as Europe/Berlin or UTC") from error

"""Typed configs, in one truth: a dataclass, a YAML file of the same shape, and command-line flags of the same names.

    config = parse(FinetuneConfig, ["--config", "finetune/beauty_search.yaml", "--optimizer.learning_rate", "1e-4"])
    config = load_yaml(FinetuneConfig, "finetune/demo.yaml")

The docstring under a field is its help text. Later arguments win over earlier ones, flags over the file before them.
argparse reads the words and prints the help, PyYAML the files; pydantic says which value does not fit its type.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse_from_object
from pydantic import TypeAdapter, ValidationError

from reshelf.errors import InputError
from reshelf.yaml_loader import UniqueKeyLoader

C = TypeVar("C")

RENAMED = {
    "dials": "hyperparameters",
    "optimiser": "optimizer",
}
"""Fields of earlier versions, and what they are called now. A nested field of the same old name counts too."""


@dataclass(frozen=True)
class Option:
    """One field of a config, however deep."""

    name: str
    """Dotted: `lora.rank`."""
    hint: Any
    """Its type."""
    default: Any
    """`MISSING` where the field must be given."""
    help: str
    """The docstring under it."""
    group: str
    """What the dataclass that holds it says of itself."""


def options(kind: type, inside: str = "") -> Iterator[Option]:
    """Every field of the dataclass `kind`, those of nested dataclasses in their place."""
    hints, documented = get_type_hints(kind), parse_from_object(kind)
    texts = {param.arg_name: param.description or "" for param in documented.params}
    for field in dataclasses.fields(kind):
        name, hint = f"{inside}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from options(hint, f"{name}.")  # type: ignore[arg-type]
        else:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            text = " ".join(texts.get(field.name, "").split())
            yield Option(name, hint, default, text, (documented.short_description or kind.__name__).rstrip("."))


def parse(
    kind: type[C], args: Sequence[str], prog: str = "reshelf", description: str | None = None, first: str = ""
) -> C:
    """The dataclass `kind` from command-line arguments.

    Args:
        first: field that may also be given as a first word, for the usage line.

    Raises:
        InputError: an unknown flag or key, a missing field, or a value of the wrong type; names the file where a
            file is at fault.
        SystemExit: after `--help` or `--print_config`.
    """
    known = {option.name: option for option in options(kind)}
    try:
        found, rest = _parser(known, prog, description, first).parse_known_args(_entries_as_pairs(args, known))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    if rest:
        _refuse(next((word for word in rest if word.startswith("--")), rest[0]), known)
    values: dict[str, Any] = {}
    for name, value in found.values:
        if name == "config":
            _merge(values, _read_file(kind, Path(value), known))
        elif _is_dict(known[name].hint):
            key, _, text = value.partition("=")
            _merge(values, _nested(name, {key: _value_of(text, get_args(known[name].hint)[1], f"{name}.{key}")}))
        else:
            _merge(values, _nested(name, _value_of(value, known[name].hint, name)))
    config = _validated(kind, values, known)
    if found.print_config:
        print(config_text(config), end="")
        raise SystemExit(0)
    return config


def load_yaml(kind: type[C], path: Path | str, **changes: Any) -> C:
    """The dataclass `kind` from a YAML file; `changes` are fields to set on top, `**{"lora.rank": 8}` for nested ones.

    Raises:
        InputError: as `parse`.
    """
    known = {option.name: option for option in options(kind)}
    values = _read_file(kind, Path(path), known)
    for name, value in changes.items():
        _merge(values, _nested(name, value))
    return _validated(kind, values, known)


def config_text(config: Any) -> str:
    """A config dataclass as the YAML that makes it again."""
    return yaml.safe_dump(_without_paths(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)


class _Given(argparse.Action):
    """Keeps the order of what was given, for later arguments win whether flags or files."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        namespace.values = [*namespace.values, (self.dest, values)]


def _parser(known: dict[str, Option], prog: str, description: str | None, first: str) -> argparse.ArgumentParser:
    word = f"[{first.upper()}] " if first else ""
    usage = f"{prog} {word}[--config FILE] [--FIELD VALUE ...]"
    parser = argparse.ArgumentParser(prog, usage, description, allow_abbrev=False, exit_on_error=False)
    parser.set_defaults(values=[])
    parser.add_argument("--config", action=_Given, metavar="FILE", help="YAML file with the fields below.")
    parser.add_argument("--print_config", action="store_true", help="Print all fields as YAML and exit.")
    groups: dict[str, Any] = {}
    for option in known.values():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        default = "(required)" if option.default is MISSING else f"(default: {_shown(option.default)})"
        short = f" Also as the first word, without --{first}." if option.name == first else ""
        about = f"{option.help}{short} {default}".replace("%", "%%")
        metavar = f"KEY={_type_name(get_args(option.hint)[1])}" if _is_dict(option.hint) else _type_name(option.hint)
        flag: dict[str, Any] = {"nargs": "?", "const": "true"} if option.hint is bool else {}
        groups[option.group].add_argument(f"--{option.name}", action=_Given, metavar=metavar, help=about, **flag)
    return parser


def _entries_as_pairs(args: Sequence[str], known: dict[str, Option]) -> list[str]:
    """`--changes.items.where.locale us`, an entry of a field that is a dict, as `--changes items.where.locale=us`."""
    pairs, words = [], iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        name, _, key = flag.removeprefix("--").partition(".")
        if not (flag.startswith("--") and key and name in known and _is_dict(known[name].hint)):
            pairs.append(word)
            continue
        if not equals and (value := next(words, "--")).startswith("--"):
            raise InputError(f"option {flag} needs a value")
        pairs += [f"--{name}", f"{key}={value}"]
    return pairs


def _refuse(word: str, known: dict[str, Option]) -> NoReturn:
    flag = word.partition("=")[0]
    if not flag.startswith("--"):
        raise InputError(f"{word!r} follows no option that takes a value; give values as --FIELD VALUE")
    name = flag.removeprefix("--")
    if new := _new_name(name):
        raise InputError(f"option --{name} is now --{new}")
    raise InputError(f"unknown option --{name}{_suggestion(name, known)}")


def _read_file(kind: type, path: Path, known: dict[str, Option]) -> dict[str, Any]:
    """The values of one config file, each looked at, so that a mistake is said with the file's name.

    A file that is not there may be one that is shipped: finetune/shop.yaml.
    """
    shipped = Path(__file__).parent / path
    if not path.exists() and shipped.is_file():
        path = shipped
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{path}{where} is not YAML: {problem}") from error
    if not isinstance(values, dict):
        what = "nothing" if values is None else f"a {type(values).__name__}"
        raise InputError(f"{path} must hold `field: value` lines, but holds {what}")
    _check_keys(path, values, known)
    try:
        TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        for problem in error.errors():
            # A missing field, or one that does not go with another, may still be set by a flag.
            if problem["type"] not in ("missing", "value_error"):
                raise InputError(f"{path}, {_sentence(problem, values, known)}") from error
    return values


def _check_keys(path: Path, values: dict[str, Any], known: dict[str, Option], inside: str = "") -> None:
    groups = {name[:end] for name in known for end, letter in enumerate(name) if letter == "."}
    for key, value in values.items():
        name = f"{inside}{key}"
        if name in groups and isinstance(value, dict):
            _check_keys(path, value, known, f"{name}.")
        elif name not in groups and name not in known:
            if new := _new_name(name):
                raise InputError(f"{path}, field {name!r} is now {new!r}")
            raise InputError(f"{path}, unknown field {name!r}{_suggestion(name, {*known, *groups})}")


def _validated(kind: type[C], values: dict[str, Any], known: dict[str, Option]) -> C:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(_sentence(error.errors()[0], values, known)) from error


def _sentence(problem: Any, values: dict[str, Any], known: dict[str, Option]) -> str:
    """What pydantic found, as a sentence that begins with the field."""
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "missing":
        return f"field {name} is missing; give it as a flag or in the --config file"
    if problem["type"] == "value_error":  # of a dataclass that looked at its fields, which says all itself
        return str(problem["ctx"]["error"])
    while name not in known and "." in name:  # an element of a list, or a branch of a union
        path.pop()
        name = ".".join(path)
    value: Any = values
    for part in path:
        value = value[part]
    expected = _type_name(known[name].hint) if name in known else "fields of its own"
    return f"field {name}: expected {expected}, got {_shown(value)}"


def _value_of(text: str, hint: Any, name: str) -> Any:
    """What a word of the command line stands for: itself where the field is text, else YAML."""
    accepted = {hint, *(get_args(hint) if _is_union(hint) else ())}
    if text == "null" and type(None) in accepted:
        return None
    if Path in accepted:
        return Path(text)  # with whatever bytes the file's name has
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)  # halves of surrogate pairs: bytes that were not UTF-8
    if str in accepted:
        return text
    lists = any(get_origin(one) is list for one in accepted)
    try:
        # In lists the items keep their letters, too, for an id may look like a number; pydantic makes numbers of them.
        return yaml.load(text, yaml.BaseLoader) if lists else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"option --{name}: {text!r} is not a YAML value") from error


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if _is_union(hint):
        return "|".join("null" if one is type(None) else _type_name(one) for one in get_args(hint))
    if get_origin(hint) is list:
        return f"[{_type_name(get_args(hint)[0])},…]"
    if _is_dict(hint):
        return "{…}"
    names = {str: "TEXT", int: "INT", float: "FLOAT", bool: "true|false", Path: "PATH"}
    return names.get(hint, "VALUE")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _is_dict(hint: Any) -> bool:
    return get_origin(hint) is dict


def _new_name(name: str) -> str | None:
    """What a field of an earlier version is called now."""
    new = ".".join(RENAMED.get(part, part) for part in name.split("."))
    return new if new != name else None


def _suggestion(name: str, known: Any) -> str:
    """`; did you mean 'lora.rank'?`, or where all names are to be found."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "; --help lists the fields"


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    """Put `more` into `values`, dicts into dicts."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    """A value as the YAML that makes it, on one line."""
    return yaml.safe_dump(_without_paths(value), default_flow_style=True, allow_unicode=True, width=10**6).split("\n")[
        0
    ]

"""Typed configs, in one truth: a dataclass, a YAML file of the same shape, and command-line flags of the same names.

    config = parse(FinetuneConfig, ["--config", "finetune/beauty_search.yaml", "--optimiser.lr", "1e-4"])
    config = load_yaml(FinetuneConfig, "finetune/demo.yaml")

The docstring under a field is its help text. Later arguments win over earlier ones, flags over the file before them.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from reshelf.errors import InputError

C = TypeVar("C")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class _Parser(ArgumentParser):
    """jsonargparse's parser, with type names written as a reader would."""

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        return _plain_types(super().format_help(formatter))


def build_parser(kind: type, prog: str = "reshelf", description: str | None = None) -> ArgumentParser:
    """A parser with one flag per field of the dataclass `kind`, nested ones as `--lora.rank`, plus `--config FILE`."""
    parser = _Parser(prog=prog, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with the fields below; flags after it win.")
    parser.add_class_arguments(kind)
    return parser


def parse(kind: type[C], args: Sequence[str], prog: str = "reshelf", description: str | None = None) -> C:
    """The dataclass `kind` from command-line arguments.

    Raises:
        InputError: an unknown flag or key, a missing field, or a value of the wrong type; names the file where a
            file is at fault.
        SystemExit: after `--help` or `--print_config`.
    """
    parser = build_parser(kind, prog, description)
    for path in _config_files(args):
        _check_file(parser, path)
    args, entries = _take_entries(kind, args)
    try:
        values = parser.parse_args(args)
        made = parser.instantiate(values)
    except ArgumentError as error:
        raise InputError(_one_sentence(parser, error)) from error
    fields = {name: value for name, value in vars(made).items() if name != "config"}
    for name, changed in entries.items():
        fields[name] = {**fields[name], **changed}
    return kind(**fields)


def load_yaml(kind: type[C], path: Path | str, **changes: Any) -> C:
    """The dataclass `kind` from a YAML file; `changes` are fields to set on top, `**{"lora.rank": 8}` for nested ones.

    Raises:
        InputError: as `parse`.
    """
    flags = [f"--{name}={v if isinstance(v, str | Path) else json.dumps(v)}" for name, v in changes.items()]
    return parse(kind, ["--config", str(path), *flags])


def _take_entries(kind: type, args: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Take `--changes.items.where.locale us` out of the flags, for fields that are dicts.

    The key is all of `items.where.locale` and the value is YAML; jsonargparse would nest the one and quote the other.
    """
    dicts = [f.name for f in dataclasses.fields(kind) if str(f.type).startswith("dict[")]
    entries: dict[str, dict[str, Any]] = {name: {} for name in dicts}
    rest = []
    waiting = iter(args)
    for arg in waiting:
        flag, equals, value = arg.partition("=")
        name, _, key = flag.removeprefix("--").partition(".")
        if not flag.startswith("--") or name not in dicts or not key:
            rest.append(arg)
            continue
        if not equals and (value := next(waiting, "--")).startswith("--"):
            raise InputError(f"option {flag} needs a value")
        try:
            entries[name][key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"option {flag}: {value!r} is not a YAML value") from error
    return rest, entries


def _config_files(args: Sequence[str]) -> Iterator[Path]:
    for i, arg in enumerate(args):
        if arg == "--config" and i + 1 < len(args):
            yield Path(args[i + 1])
        elif arg.startswith("--config="):
            yield Path(arg.removeprefix("--config="))


def _check_file(parser: ArgumentParser, path: Path) -> None:
    """Look at one config file alone, so that a mistake in it can be said with its name."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    _check_keys(parser, path, values)
    try:
        parser.parse_object(values)
    except ArgumentError as error:
        if str(error).startswith("Parser key"):  # anything else (a missing field) may still be mended by a flag
            raise InputError(f"{path}, {_one_sentence(parser, error)}") from error


def _check_keys(parser: ArgumentParser, path: Path, values: dict[str, Any], inside: str = "") -> None:
    known = _fields(parser)
    for key, value in values.items():
        name = f"{inside}{key}"
        if name not in known:
            raise InputError(f"{path}, unknown field {name!r}{_suggestion(name, known)}")
        if isinstance(value, dict) and any(field.startswith(f"{name}.") for field in known):
            _check_keys(parser, path, value, f"{name}.")


def _fields(parser: ArgumentParser) -> set[str]:
    """Dotted names of every field, the nested dataclasses themselves included."""
    leaves = {a.dest for a in parser._actions if a.dest not in ("help", "print_config", argparse.SUPPRESS)}
    groups = {name.rsplit(".", depth)[0] for name in leaves for depth in range(1, name.count(".") + 1)}
    return leaves | groups


def _suggestion(name: str, known: set[str]) -> str:
    """`; did you mean 'lora.rank'?`, or where all names are to be found."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "; --help lists the fields"


def _plain_types(text: str) -> str:
    text = re.sub(r"<class\s+'(?:\w+\.)*(\w+)'>", r"\1", text)
    return re.sub(r"(?:typing\.)?Literal\[([^\]]*)\]", r"one of \1", text)


def _one_sentence(parser: ArgumentParser, error: ArgumentError) -> str:
    """jsonargparse's report as a single line that begins with the field."""
    text = " ".join(_plain_types(str(error)).split())
    if found := re.match(r'Parser key "([^"]+)": (.*)', text):
        name, problem = found.groups()
        problem = re.sub(r"^Expected an? (.*?)\. Got value: (.*)$", r"expected \1, got \2", problem)
        several = (
            r"^Does not validate against any of the Union subtypes Subtypes: \[(.*)\] Errors: .*Given value: (.*)$"
        )
        problem = re.sub(several, r"expected \1; got \2", problem)
        return f"field {name}: {problem}"
    if found := re.match(r"unrecognized arguments: (--([^\s=]+).*)", text):
        return f"unknown option --{found[2]}{_suggestion(found[2], _fields(parser))}"
    if found := re.match(r"the following arguments are required: (.*)", text):
        return f"field {found[1]} is missing; give it as a flag or in the --config file"
    return text

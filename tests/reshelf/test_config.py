"""Dataclass, YAML and flags say the same thing; mistakes name the file and the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from reshelf.cli import COMMANDS, load
from reshelf.config import RENAMED, load_yaml, options, parse
from reshelf.errors import InputError
from reshelf.evaluation.config import EvaluateConfig


@dataclass
class Adapter:
    """Adapter."""

    rank: int = 16
    """Rank of the matrices."""
    targets: list[str] = field(default_factory=lambda: ["q_proj"])
    """Layers that get one."""


@dataclass
class Toy:
    """Settings of the toy."""

    out: Path
    """Folder to write."""
    rate: float = 1e-4
    """Learning rate."""
    language: Literal["en", "zh"] = "en"
    """Language of the prompt."""
    limit: int | None = None
    """Most lists to read; null for all."""
    verbose: bool = False
    """Whether to say more."""
    systems: Literal["all"] | list[Literal["bm25", "random"]] = field(default_factory=list)
    """Systems to compare."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Values to change, by dotted key."""
    adapter: Adapter = field(default_factory=Adapter)
    """Its adapter."""


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text("out: runs/toy\nrate: 1e-3\nadapter:\n  rank: 4\n")
    return path


def test_file_then_flags(yaml_file: Path) -> None:
    made = parse(Toy, ["--config", str(yaml_file), "--adapter.targets", "[a,b]", "--rate=0.5"])
    assert made == Toy(out=Path("runs/toy"), rate=0.5, adapter=Adapter(rank=4, targets=["a", "b"]))


def test_changes_on_top_of_a_file(yaml_file: Path) -> None:
    made = load_yaml(Toy, yaml_file, out=Path("elsewhere"), limit=None, **{"adapter.rank": 2})
    assert made == Toy(out=Path("elsewhere"), rate=1e-3, adapter=Adapter(rank=2))


def test_a_missing_field_of_the_file_may_come_from_a_flag(yaml_file: Path) -> None:
    yaml_file.write_text("rate: 0.1\n")
    assert parse(Toy, ["--config", str(yaml_file), "--out", "x"]) == Toy(out=Path("x"), rate=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adapter:\n  rnak: 3\n", "unknown field 'adapter.rnak'; did you mean 'adapter.rank'?"),
        ("out: x\nzzz: 1\n", "unknown field 'zzz'; --help lists the fields"),
        ("rate: fast\n", "field rate: expected FLOAT, got fast"),
        ("language: fr\n", "field language: expected en|zh, got fr"),
        ("- out\n", "must hold `field: value` lines, but holds a list"),
        ("", "must hold `field: value` lines, but holds nothing"),
        ("out: [1\n", "line 2 is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(yaml_file: Path, text: str, message: str) -> None:
    yaml_file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_yaml(Toy, yaml_file)
    assert str(yaml_file) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"cannot read the config file nowhere\.yaml: No such file"):
        load_yaml(Toy, "nowhere.yaml")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "x", "--adapter.rnak", "3"], "unknown option --adapter.rnak; did you mean 'adapter.rank'?"),
        (["--out", "x", "--rate", "fast"], "field rate: expected FLOAT, got fast"),
        (["--out"], "argument --out: expected one argument"),
        (["--out", "x", "y"], "'y' follows no option that takes a value; give values as --FIELD VALUE"),
        ([], "field out is missing; give it as a flag or in the --config file"),
    ],
)
def test_a_mistake_in_a_flag(args: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(Toy, args)
    assert str(caught.value) == message


def test_entries_of_a_dict_keep_their_dots_and_types(yaml_file: Path) -> None:
    yaml_file.write_text("out: x\nchanges: {a.b: 1, c: 2}\n")
    made = parse(Toy, ["--config", str(yaml_file), "--changes.a.b", "5", "--changes.lists.0.names=[x, y]"])
    assert made.changes == {"a.b": 5, "c": 2, "lists.0.names": ["x", "y"]}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--changes.a"], "option --changes.a needs a value"),
        (["--changes.a", "--rate", "1"], "option --changes.a needs a value"),
        (["--changes.a", "["], "option --changes.a: '[' is not a YAML value"),
    ],
)
def test_a_mistake_in_an_entry(args: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(Toy, ["--out", "x", *args])
    assert str(caught.value) == message


def test_systems_are_a_word_or_a_list_and_other_rerankers_have_names() -> None:
    given = ["--data", "d", "--out", "o"]
    assert parse(EvaluateConfig, [*given, "--systems", "all"]).systems == "all"
    config = parse(EvaluateConfig, [*given, "--systems", "[bm25, random]", "--others.kl", "runs/kl"])
    assert config.systems == ["bm25", "random"]
    assert config.others == {"kl": Path("runs/kl")}
    with pytest.raises(InputError, match=r"^field systems: expected all\|\[random\|.*\|bm25\|.*,…\], got foo$"):
        parse(EvaluateConfig, [*given, "--systems", "foo"])


def test_a_flag_stands_alone_or_before_true_or_false(yaml_file: Path) -> None:
    yaml_file.write_text("out: x\nverbose: true\n")
    assert parse(Toy, ["--verbose", "--out", "x"]).verbose
    assert parse(Toy, ["--out", "x", "--verbose"]).verbose
    assert not parse(Toy, ["--config", str(yaml_file), "--verbose", "false"]).verbose
    assert parse(Toy, ["--verbose=false", "--config", str(yaml_file)]).verbose, "later arguments win"
    with pytest.raises(InputError, match=r"^field verbose: expected true\|false, got perhaps$"):
        parse(Toy, ["--out", "x", "--verbose", "perhaps"])


def test_a_field_of_an_earlier_version_is_said_by_its_new_name(
    yaml_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RENAMED, "lora", "adapter")
    yaml_file.write_text("out: x\nlora: {rank: 3}\n")
    with pytest.raises(InputError, match=r"toy\.yaml, field 'lora' is now 'adapter'$"):
        load_yaml(Toy, yaml_file)
    with pytest.raises(InputError, match=r"^option --lora\.rank is now --adapter\.rank$"):
        parse(Toy, ["--out", "x", "--lora.rank", "3"])


def test_old_names_are_gone_from_every_config() -> None:
    names = {part for command in COMMANDS.values() for o in options(load(command.config)) for part in o.name.split(".")}
    assert names.isdisjoint(RENAMED)
    assert set(RENAMED.values()) <= names


def test_the_printed_config_makes_the_same_config(yaml_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--config", str(yaml_file), "--systems", "[bm25]", "--changes.a.b", "null", "--adapter.targets", "[1, b]"]
    with pytest.raises(SystemExit) as stopped:
        parse(Toy, [*args, "--print_config"])
    assert stopped.value.code == 0
    yaml_file.write_text(capsys.readouterr().out)
    assert load_yaml(Toy, yaml_file) == parse(
        Toy, [*args[2:], "--out", "runs/toy", "--rate", "1e-3", "--adapter.rank=4"]
    )


def test_text_with_half_a_surrogate_pair_is_replaced_and_a_path_keeps_its_bytes() -> None:
    """Bytes that are not UTF-8 reach Python's arguments as lone surrogates."""
    half = b"caf\xe9".decode("utf-8", "surrogateescape")
    made = parse(Toy, ["--out", half, "--adapter.targets", f"[{half}]"])
    assert bytes(made.out) == b"caf\xe9"
    assert made.adapter.targets == ["caf\ufffd"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("limit", "7", 7),
        ("limit", "null", None),
        ("systems", "all", "all"),
        ("systems", "[bm25,random]", ["bm25", "random"]),
    ],
)
def test_a_value_of_the_command_line_has_the_type_of_its_field(kind: str, text: str, value: object) -> None:
    assert getattr(parse(Toy, ["--out", "x", f"--{kind}", text]), kind) == value


def test_an_id_that_looks_like_a_number_stays_text() -> None:
    assert parse(Toy, ["--out", "1", "--adapter.targets", "[007, 1e3]"]) == Toy(
        out=Path("1"), adapter=Adapter(targets=["007", "1e3"])
    )

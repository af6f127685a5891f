"""The `reshelf` command: dispatch, exit codes, and help that needs no heavy import."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reshelf import __version__
from reshelf.cli import COMMANDS, RENAMED, Command, load, main
from reshelf.config import options

TOY_MODULE = '''
from __future__ import annotations
import os, signal, threading
from dataclasses import dataclass
from pathlib import Path
import duckdb
from reshelf.errors import InputError

@dataclass
class ToyConfig:
    """Toy settings."""

    out: Path
    """Folder to write."""
    fail: str = "no"
    """Which way to end."""

def run(config: ToyConfig) -> None:
    if config.fail == "input":
        raise InputError("lists.parquet row 3,\\n  field labels: NaN")
    if config.fail == "bug":
        raise RuntimeError("a bug")
    if config.fail == "full":
        raise OSError(28, "No space left on device", str(config.out))
    if config.fail == "full elsewhere":
        raise ValueError("Could not write: No space left on device (os error 28)")
    if config.fail == "interrupt":
        raise KeyboardInterrupt
    if config.fail == "interrupt a query":  # of which DuckDB makes a RuntimeError
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        duckdb.connect().execute("SELECT count(*) FROM range(3000000000) WHERE hash(range) % 7 = 1").fetchall()
    print("ran", config.out)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A `reshelf toy` command, so that dispatch is tested apart from what real commands do."""
    (tmp_path / "toy_command.py").write_text(TOY_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_command", raising=False)
    monkeypatch.setitem(COMMANDS, "toy", Command("toy_command.ToyConfig", "toy_command.run", "a toy"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background ignore it
    yield
    signal.signal(signal.SIGINT, before)


def test_overview_lists_every_command_and_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(f"reshelf {name} " in overview for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"reshelf {__version__}\n"


def test_data_alone_lists_the_data_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    out = capsys.readouterr().out
    assert "reshelf data import" in out
    assert "reshelf finetune" not in out


@pytest.mark.parametrize("words", [["dance"], ["data", "dance"], ["--dance"]])
def test_unknown_command_is_one_sentence_and_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"reshelf: there is no command {' '.join(words)!r}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_command_says_its_new_name(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert old not in COMMANDS
    assert new in COMMANDS
    assert main([*old.split(), "--out", "x"]) == 2
    assert capsys.readouterr().err == f"reshelf: `reshelf {old}` is now `reshelf {new}`\n"


@pytest.mark.usefixtures("toy")
class TestExitCodes:
    def test_done(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["toy", "--out", "x"]) == 0
        assert capsys.readouterr().out == "ran x\n"

    def test_input_error_is_one_line_without_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["toy", "--out", "x", "--fail", "input"]) == 2
        assert capsys.readouterr().err == "reshelf: lists.parquet row 3, field labels: NaN\n"

    def test_a_bug_keeps_its_traceback(self) -> None:
        with pytest.raises(RuntimeError, match="a bug"):
            main(["toy", "--out", "x", "--fail", "bug"])

    @pytest.mark.parametrize("when", ["interrupt", "interrupt a query"])
    def test_interrupt_is_one_sentence(self, capsys: pytest.CaptureFixture[str], when: str) -> None:
        assert main(["toy", "--out", "x", "--fail", when]) == 130
        assert capsys.readouterr().err == "reshelf: interrupted; give the same command again to finish\n"

    def test_bad_flag(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["toy", "--out", "x", "--fial", "bug"]) == 2
        assert capsys.readouterr().err == "reshelf: unknown option --fial; did you mean 'fail'?\n"

    def test_missing_field(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["toy"]) == 2
        assert capsys.readouterr().err.startswith("reshelf: field out is missing")

    def test_help_shows_the_fields(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["toy", "--help"])
        assert stopped.value.code == 0
        out = capsys.readouterr().out
        assert "A toy." in out
        assert "--out PATH      Folder to write. (required)" in out
        assert "--fail TEXT     Which way to end. (default: 'no')" in out

    def test_help_shows_the_field_that_may_be_a_first_word(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = Command("toy_command.ToyConfig", "toy_command.run", "a toy", first="out")
        monkeypatch.setitem(COMMANDS, "toy", command)
        with pytest.raises(SystemExit):
            main(["toy", "--help"])
        out = " ".join(capsys.readouterr().out.split())
        assert "usage: reshelf toy [OUT] [--config FILE]" in out
        assert "--out PATH Folder to write. Also as the first word, without --out. (required)" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_every_field_is_explained(name: str) -> None:
    """Units and meanings live in the docstring under each field; a field without one has an empty help."""
    command = COMMANDS[name]
    kind = load(command.config)
    mute = [option.name for option in options(kind) if not option.help]
    assert mute == []
    first = next(iter(inspect.signature(load(command.function)).parameters.values()))
    assert first.annotation in (kind, kind.__name__)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from reshelf.cli import main; main(['--help']); "
        "print(sorted({'torch', 'transformers', 'numpy', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(("fail", "where"), [("full", "x: "), ("full elsewhere", "")])
def test_a_full_disk_is_one_sentence(fail: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toy", "--out", "x", "--fail", fail]) == 1
    assert capsys.readouterr().err == f"reshelf: {where}the disk is full; make room, and repeat it\n"

"""`reshelf signals refresh`: mistakes in what was given; what it does is tested on a running server."""

from __future__ import annotations

from pathlib import Path

import pytest

from reshelf.cli import main


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signals", "refresh", str(tmp_path / "model"), "--data", str(tmp_path / "tonight")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'tonight'} is no folder; give the data set folder that `reshelf data import` wrote" in said

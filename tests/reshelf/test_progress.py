"""Progress where there is no terminal: a line a minute with the time left, and none on a terminal but the bar."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from reshelf import progress
from reshelf.progress import MinuteProgress, phase, time_text


def test_a_line_a_minute_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.2)
    said = io.StringIO()
    with MinuteProgress(console=Console(file=said), transient=True) as shown:
        task = shown.add_task("scoring", total=100)
        for _ in range(60):
            time.sleep(0.01)
            shown.advance(task)
    lines = said.getvalue().split("\n")
    found = [line for line in lines if line.startswith("scoring: ") and line.endswith(" s left")]
    assert 1 <= len(found) < 60
    assert " of 100, " in found[0]


def test_a_phase_says_so_at_once_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.1)
    said = io.StringIO()
    with phase(Console(file=said), "merging"):
        assert said.getvalue() == "merging …\n"
        time.sleep(0.3)
    assert "merging: 0 s so far" in said.getvalue()


def test_times_are_short() -> None:
    assert [time_text(s) for s in (0.4, 59, 600, 9000)] == ["0 s", "59 s", "10 min", "2.5 h"]

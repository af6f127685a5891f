"""Logging never waits, whoever reads; and what fails again and again is said once a minute."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time

import pytest

from reshelf.inference.serving import log
from reshelf.inference.serving.log import log_once_a_minute

WRITE = """
import logging, sys, time
from reshelf.inference.serving.log import log_as_json
log_as_json()
logger = logging.getLogger("reshelf.serving")
for n in range(30_000):
    logger.info("request", extra={"number": n, "text": "x" * 100})
print("logged", flush=True)
sys.stdin.readline()
time.sleep(0.5)
logger.info("last")
"""


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "logged\n"  # nobody has read a line of the log
        _, said = process.communicate("go on\n", timeout=20)
    lines = [json.loads(line) for line in said.splitlines()]
    dropped = sum(line.get("dropped", 0) for line in lines)
    assert dropped > 10_000
    assert sum(line["message"] == "request" for line in lines) + dropped == 30_000
    assert lines[-1]["message"] == "last"


def test_a_process_whose_log_nobody_reads_ends() -> None:
    code = WRITE.replace("sys.stdin.readline()", "")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.wait(20) == 0
        assert process.stderr is not None
        process.stderr.close()


def test_what_fails_again_and_again_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO, "reshelf.serving"):
        for second in range(130):
            now += 1
            log_once_a_minute("store failed in a test", problem=second)
            log_once_a_minute("another failure in a test")
    said = [record for record in caplog.records if record.getMessage() == "store failed in a test"]
    assert [getattr(record, "repeated", 0) for record in said] == [0, 59, 59]
    assert len(caplog.records) == 6

"""An engine in a process of its own scores as one in this process, leaves nothing behind, and says why it failed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reshelf.errors import InputError
from reshelf.inference.engines import child as child_module
from reshelf.inference.engines.child import EngineChild
from reshelf.inference.engines.engine_process import EngineProcess
from reshelf.inference.engines.messages import Forget, Score, Start, framed
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.modeling.checkpoint import TrainedReranker, load_reranker
from reshelf.prompts.list_prompt import ListPrompt


@pytest.fixture(scope="module")
def engine(reranker_folder: Path) -> Iterator[EngineProcess]:
    with EngineProcess(Start(str(reranker_folder), "transformers", "cpu")) as made:
        yield made
    assert made.score([]) == []
    with pytest.raises(RuntimeError, match="closed"):
        made.forget()


def gone(pid: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_scores_as_in_this_process(
    engine: EngineProcess, loaded: TrainedReranker, prompts: list[ListPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TransformersEngine(loaded.model).score(prompts)
    assert (engine.name, engine.takes_adapters) == ("transformers", True)
    monkeypatch.setattr("reshelf.inference.engines.engine_process._TOKENS", 500)  # several messages
    for values, other in zip(engine.score(prompts), expected, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, other, atol=1e-5)
    assert engine.prompt_tokens > 0


def test_what_is_forgotten_is_read_again(engine: EngineProcess, prompts: list[ListPrompt]) -> None:
    for namespace in ("shop", "another"):
        engine.score(prompts[1:2], namespace)
    engine.forget("shop")
    cached = engine.cached_tokens
    engine.score(prompts[1:2], "shop")
    assert engine.cached_tokens == cached
    engine.score(prompts[1:2], "another")
    assert engine.cached_tokens > cached


def test_adapters(engine: EngineProcess, prompts: list[ListPrompt], other_folder: Path) -> None:
    engine.add_adapter("adapter1", other_folder)
    (expected,) = TransformersEngine(load_reranker(other_folder, "cpu").model).score(prompts[:1])
    np.testing.assert_allclose(engine.score(prompts[:1], adapter="adapter1")[0], expected, atol=1e-5)
    engine.remove_adapter("adapter1")
    with pytest.raises(InputError, match="no adapter 'adapter1'"):
        engine.score(prompts[:1], adapter="adapter1")
    with pytest.raises(InputError, match=r"has no adapter_config\.json"):
        engine.add_adapter("adapter2", other_folder / "nowhere")
    assert engine.score(prompts[:1])


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a reranker folder"):
        EngineProcess(Start(str(tmp_path), "transformers"))


def test_a_process_that_is_killed_is_said_to_be(reranker_folder: Path, prompts: list[ListPrompt]) -> None:
    engine = EngineProcess(Start(str(reranker_folder), "transformers", "cpu"))
    assert engine._child is not None
    os.kill(engine._child.process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"the engine failed: it was ended by SIGKILL"):
        engine.score(prompts[:1])
    with pytest.raises(RuntimeError, match="closed"):
        engine.score(prompts[:1])


def test_it_prints_nothing_here_and_imports_nothing_of_the_current_folder(
    reranker_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("torch", "msgspec", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit('{name}')\n")
    monkeypatch.chdir(tmp_path)
    EngineProcess(Start(str(reranker_folder), "transformers", "cpu")).close()
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x01\x00", b"\xff" * 64, framed(Forget(1, "")), framed(Score(1, ()))])
def test_hostile_bytes_end_the_process(data: bytes) -> None:
    child = EngineChild()
    child.socket.sendall(data)
    child.socket.settimeout(30)
    assert child.socket.recv(1) == b""
    child.end(5)
    assert child.problem("").partition(":")[0].endswith("ProtocolError")


ORPHANS = """
import sys, time
from reshelf.inference.engines import process
from reshelf.inference.engines.engine_process import EngineProcess
from reshelf.inference.engines.messages import Start
engine = EngineProcess(Start(sys.argv[1], "transformers", "cpu"))
print(engine._child.process.pid, engine._child._files.name, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_who_started_it(reranker_folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", ORPHANS, str(reranker_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        pid, files = caller.stdout.readline().split()
        assert not gone(int(pid), 0.2)
        caller.send_signal(number)
        caller.wait()
    assert gone(int(pid))
    assert not Path(files).exists()


BUSY = """
import sys, threading, time
from reshelf.inference.engines import process
process._GRACE_S = 0.5
process._loaded.set()
threading.Thread(target=process._end_with_caller, args=(int(sys.argv[1]), sys.argv[2]), daemon=True).start()
print("busy", flush=True)
while True: time.sleep(1)
"""


def test_one_that_is_busy_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    """It does not read from its socket then; a thread of it sees that nobody is there."""
    files = tmp_path / "engine"
    files.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        busy = subprocess.Popen(
            [sys.executable, "-c", BUSY, str(theirs.fileno()), str(files)], pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        assert busy.stdout is not None
        assert busy.stdout.readline() == b"busy\n"
    assert busy.wait(20) == -signal.SIGKILL
    busy.stdout.close()
    assert not files.exists()


OUTPUT = """
INFO 11-27 05:00:00 [utils.py:12] starting
(EngineCore pid=71) ERROR 11-27 05:00:01 [core.py:1234] EngineCore failed to start.
(EngineCore pid=71) ERROR 11-27 05:00:01 [core.py:1234] Traceback (most recent call last):
(EngineCore pid=71) ERROR 11-27 05:00:01 [core.py:1234]   File "core.py", line 1, in run
(EngineCore pid=71) ERROR 11-27 05:00:01 [core.py:1234]     start()
(EngineCore pid=71) ERROR 11-27 05:00:01 [core.py:1234] ValueError: no module or parameter named 'model'
(EngineCore pid=71) Process EngineCore:
(EngineCore pid=71) Traceback (most recent call last):
(EngineCore pid=71)   File "core.py", line 1, in run
(EngineCore pid=71) ValueError: noticed later
Traceback (most recent call last):
  File "process.py", line 1, in main
RuntimeError: Engine core initialization failed. See root cause above.
"""

PYDANTIC = """Traceback (most recent call last):
  File "config.py", line 1, in init
ValidationError: 1 error for LoRAConfig
  Value error, no.
more"""


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (OUTPUT, "ValueError: no module or parameter named 'model'"),
        (PYDANTIC, "ValidationError: 1 error for LoRAConfig Value error, no."),
        ("nothing\nof note\n", "as it says"),
    ],
)  # fmt: skip
def test_the_cause_is_the_first_error(output: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Prints(subprocess.Popen[bytes]):
        def __init__(self, command: Any, **options: Any) -> None:
            super().__init__([sys.executable, "-c", f"print({output!r})"], **options)

    monkeypatch.setattr(child_module.subprocess, "Popen", Prints)
    child = EngineChild()
    child.end(20)
    assert child.problem("as it says") == cause
    assert len(child.output.tail(3)) <= 3

"""The process an engine runs in: started with nothing of the caller's, ended with all that it started.

    child = EngineChild()
    child.socket.sendall(framed(Start("runs/demo/model", "vllm")))
    ...
    child.end()

It gets its own process group, so that vLLM's processes end with it, and never the caller's script, current folder or
output: what it prints is read here, and the last of it says why an engine did not start. The child watches its end of
the socket and ends when the caller has, however the caller ended (`inference.engines.process`). It is the caller's
only: a process that is forked from it lets go of the socket at once, or the child would not see that the caller ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from typing import IO
from weakref import WeakSet

_KEPT = 400
"""Lines of a process's output that are kept."""
_LONGEST = 2000
"""Characters kept of one line."""
_unread: list[IO[bytes]] = []
"""Streams that a forked process never closes."""
_TRACEBACK = "Traceback (most recent call last):"
_LOG_PREFIX = re.compile(
    r"^(\([\w .-]+ pid=\d+\) ?)?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?"
)


class EngineChild:
    """A process of `inference.engines.process`, and this side's end of the socket to it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self._files = tempfile.TemporaryDirectory(prefix="reshelf-engine-", ignore_cleanup_errors=True)
        # -P: a module in the current folder, which may be a downloaded one, is not taken for a library.
        command = [sys.executable, "-P", "-m", "reshelf.inference.engines.process"]
        try:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), self._files.name],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                process_group=0,
            )  # fmt: skip
        except BaseException:
            self.socket.close()
            self._files.cleanup()
            raise
        finally:
            theirs.close()
        assert self.process.stdout is not None
        self.output = LastLines(self.process.stdout)
        self.starter = os.getpid()
        _all.add(self)

    def end(self, grace_s: float = 20.0) -> None:
        """No process or file of the engine's is left. It has `grace_s` seconds to end by itself when it sees that
        nobody is there. Again this changes nothing, nor does it in a process that was forked."""
        self.socket.close()
        if self.starter != os.getpid():
            return
        self._wait(grace_s)
        # The group is there as long as one process of it is, even after its first one was waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()
        self._files.cleanup()

    def _wait(self, seconds: float) -> None:
        """At most so long, for the process to end: woken by the kernel, where `Popen.wait` looks again and again."""
        if self.process.poll() is None:
            descriptor = os.pidfd_open(self.process.pid)
            try:
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                ended.poll(1000 * seconds)
            finally:
                os.close(descriptor)

    def let_go(self) -> None:
        """In a process that was forked: of the socket, the output, and the files, which at its exit it would remove."""
        self.socket.close()
        self._files._finalizer.detach()  # type: ignore[attr-defined]
        self.output.let_go()

    def problem(self, message: str = "") -> str:
        """Why it ended, in one sentence: the error in its output that came first, else what it `said` itself.

        Call after `end`.
        """
        if cause := self.output.cause():
            return cause
        if message:
            return message
        code = self.process.returncode
        return f"it was ended by {signal.Signals(-code).name}" if code and code < 0 else f"it ended with code {code}"


_all: WeakSet[EngineChild] = WeakSet()


def _let_go() -> None:
    for child in list(_all):
        child.let_go()


os.register_at_fork(after_in_child=_let_go)


class LastLines:
    """The end of what a process prints, read as it comes so that it never waits for a reader.

    Args:
        stream: its output.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._first_error: list[str] = []
        """The lines of the first traceback: later ones are other processes noticing."""
        self._thread = threading.Thread(target=self._read, daemon=True, name="engine output")
        self._thread.start()

    def close(self) -> None:
        """Wait for the last line; call when all who write are gone."""
        self._thread.join(5)
        if not self._thread.is_alive():
            self._stream.close()

    def let_go(self) -> None:
        """In a process that was forked, where nobody reads: it would keep who prints from being told so."""
        if not self._stream.closed:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, self._stream.fileno())  # closing waits for the reader, which was not forked
            os.close(null)
            _unread.append(self._stream)

    def tail(self, lines: int) -> list[str]:
        return list(self._lines)[-lines:]

    def cause(self) -> str:
        """The exception that the first traceback ends with, `ValueError: too bad`; empty where there was none."""
        for n, line in enumerate(self._first_error):
            if n and line and not line[0].isspace() and line != _TRACEBACK:
                # An exception's text may go on, indented, as pydantic's does.
                more = [one.strip() for one in self._first_error[n + 1 : n + 3] if one[:1].isspace()]
                return " ".join([line, *more])
        return ""

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            while raw := self._stream.readline(_LONGEST):
                line = _LOG_PREFIX.sub("", raw.decode(errors="replace").rstrip("\n"), count=1)
                self._lines.append(line)
                if len(self._first_error) < _KEPT and (self._first_error or line == _TRACEBACK):
                    self._first_error.append(line)

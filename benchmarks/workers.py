"""Contestants as processes that take turns, and the environment that the peers are installed in.

    with Worker("train_reshelf", folder) as reshelf, Worker("train_flagembedding", folder, peer=True) as peer:
        for _ in range(5):
            reshelf.turn(), peer.turn()

Each contestant is a script in `benchmarks/contestants` and does its work once per turn (`benchmarks.turns`). A peer is
used as its own documentation says, in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers"
PEER_PACKAGES = ("sentence-transformers==6.2.0", "FlagEmbedding==1.4.2", "transformers==5.19.*")


class Worker:
    """A contestant's process.

    Args:
        script: module in `benchmarks.contestants`, or a file.
        folder: the workload it works on, see `benchmarks.workload`.
        options: more arguments.
        peer: run it in the peers' environment.
        environment: variables of its process; this one's where not given.

    Raises:
        RuntimeError: it ended; the message is the end of what it printed.
    """

    def __init__(
        self, script: str | Path, folder: Path, *options: str, peer: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        python = PEERS / "bin" / "python" if peer else Path(sys.executable)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._name = script
        what = [str(script)] if isinstance(script, Path) else ["-m", f"benchmarks.contestants.{script}"]
        self._process = subprocess.Popen(
            [str(python), *what, str(folder), *options],
            cwd=script.parent if isinstance(script, Path) else ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.facts = self._read()
        """What it said when its model was in memory."""

    def turn(self, task: Any = None) -> dict[str, Any]:
        """Let it work once; `seconds`, `peak_mib` and what else it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            raise RuntimeError(f"{self._name} ended with code {self._process.returncode}:\n{self._log.read()[-3000:]}")
        facts: dict[str, Any] = json.loads(line)
        return facts


def install_peers(console: Console) -> dict[str, str]:
    """Put the peers into `.venv-peers`, once; returns their versions."""
    python = PEERS / "bin" / "python"
    if not (PEERS / "installed").exists():
        import torch

        version = torch.__version__.partition("+")[0]
        for what, command in (
            ("environment", [sys.executable, "-m", "venv", "--clear", str(PEERS)]),
            ("pip", [str(python), "-m", "pip", "install", "-q", "--upgrade", "pip"]),
            (f"torch {version}", [str(python), "-m", "pip", "install", "-q", f"torch=={version}"]),
            ("peers", [str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES]),
        ):
            with console.status(f"installing the peers: {what}"):
                subprocess.run(command, check=True, capture_output=True, text=True)
        (PEERS / "installed").touch()
    names = ["sentence-transformers", "FlagEmbedding", "transformers", "torch"]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    found = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout
    return {f"peers' {name}": version for name, version in json.loads(found).items()}

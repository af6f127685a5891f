"""What the service's two processes load: torch belongs to the engine's alone."""

from __future__ import annotations

from pathlib import Path

from tests.inference.serving.server import Server


def test_who_computes_nothing_loads_no_torch(server: Server) -> None:
    http, engine = (Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, server.engine_pid()))
    assert "libtorch" not in http
    assert "libtorch" in engine
    assert "sklearn" not in engine, "transformers loads it for a kind of text generation"

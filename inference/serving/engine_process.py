"""The engine in a process of its own: whatever happens to it, the server goes on and starts it again.

    python -m reshelf.inference.serving.engine_process FD SETTINGS     (the server calls it; see `engine_link`)

It is the engine of `Reranker` and `reshelf batch`, so a served order is the offline one. Messages go over a socket pair
that only the server holds the other end of. It ends when the server does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reshelf.errors import InputError
from reshelf.inference.engines.engine import Engine
from reshelf.inference.serving.engine_messages import (
    FAILED,
    MOST,
    READY,
    WINDOWS,
    Done,
    Frames,
    Job,
    Load,
    Loaded,
    Unload,
    framed,
)

_NICE = 5
"""On a machine whose every core the engine uses, the server answers first: a deadline is kept by who is awake."""


def main(fd: int, settings: dict[str, Any]) -> None:
    """Load, say so, and score until the server hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this process
    os.nice(_NICE)
    server = socket.socket(fileno=fd)
    try:
        engine = _load(settings)
    except InputError as error:
        server.sendall(framed((FAILED, str(error))))  # the server says it
        return
    except Exception as error:
        server.sendall(framed((FAILED, f"{type(error).__name__}: {error}")))
        raise
    try:
        server.sendall(framed((READY, engine.name, WINDOWS[engine.name], engine.shares)))
        frames = Frames()
        while data := server.recv(MOST):
            messages = list(frames.feed(data))
            for reply in _answered(engine, messages):
                server.sendall(framed(reply))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server is gone
    finally:
        engine.close()


def _load(settings: dict[str, Any]) -> Engine:
    import torch

    from reshelf.inference.engines.start import start_engine
    from reshelf.inference.engines.vllm_engine import VllmSettings
    from reshelf.modeling.checkpoint import load_reranker

    # On a GPU one vLLM takes all of the memory: other adapters come into it. On a CPU its kernels for them are slow.
    vllm = VllmSettings(lora="by_request" if torch.cuda.is_available() else "merged")
    return start_engine(load_reranker(Path(settings["model"])), settings["engine"], vllm)


def _answered(engine: Engine, messages: Sequence[Any]) -> Iterator[Any]:
    """Replies to messages that came together. Adapters come before lists that may be theirs, and go after them."""
    for message in messages:
        if isinstance(message, Load):
            yield _loaded(engine, message)
    jobs = [message for message in messages if isinstance(message, Job)]
    for group in _alike(jobs) if engine.name == "vllm" else [[job] for job in jobs]:
        yield from _score(engine, group)
    for message in messages:
        if isinstance(message, Unload):
            engine.remove_adapter(message.adapter)


def _loaded(engine: Engine, message: Load) -> Loaded:
    try:
        engine.add_adapter(message.adapter, Path(message.folder))
    except InputError as error:
        return Loaded(message.adapter, str(error))
    except Exception as error:  # of one adapter; the others are served
        return Loaded(message.adapter, f"{type(error).__name__}: {error}")
    return Loaded(message.adapter)


def _alike(jobs: Sequence[Job]) -> list[list[Job]]:
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.namespace, job.adapter), []).append(job)
    return list(groups.values())


def _score(engine: Engine, jobs: list[Job]) -> list[Done]:
    """Scores of jobs that may share a pass; where they fail together, each alone, so that one does not harm others."""
    before = engine.prompt_tokens, engine.cached_tokens
    start = time.perf_counter()
    try:
        scores = engine.score([job.prompt for job in jobs], jobs[0].namespace, jobs[0].adapter)
    except Exception as error:
        if len(jobs) > 1:
            return [done for job in jobs for done in _score(engine, [job])]
        return [Done(jobs[0].number, None, error=type(error).__name__)]
    ms = 1000 * (time.perf_counter() - start)
    prompt, cached = ((a - b) // len(jobs) for a, b in zip((engine.prompt_tokens, engine.cached_tokens), before))
    return [Done(job.number, values.tobytes(), ms, prompt, cached) for job, values in zip(jobs, scores, strict=True)]


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))

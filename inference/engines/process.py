"""An engine in a process of its own: whatever happens to it, who uses it goes on.

    python -m reshelf.inference.engines.process FD FOLDER     (`EngineChild` calls it)

The first message over the socket FD says what to start, FOLDER holds its temporary files; then lists come and scores go
back. Python (`EngineProcess`) and the server (`serving.engine`) run every engine that is not in their own process by
this one. It ends when they do: by the end of the stream, or, where it is busy then, by a thread that watches for it.

Nothing heavy is imported up here: the processes that vLLM starts import this file again.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from reshelf.errors import InputError
from reshelf.inference.engines.messages import (
    CHUNK,
    AdapterLoaded,
    Forget,
    Forgotten,
    FrameReader,
    FromEngine,
    LoadAdapter,
    NotScored,
    NotStarted,
    Progress,
    ProtocolError,
    Ready,
    Score,
    Scored,
    ScorePairs,
    Start,
    StartExported,
    ToEngine,
    UnloadAdapter,
    decode_list,
    framed,
)
from reshelf.inference.lean_imports import absent

if TYPE_CHECKING:
    from reshelf.inference.engines.engine import Engine

_IN_FLIGHT = {"transformers": 2, "vllm": 64}
"""One list to work on and the next; or as many as vLLM can do together."""
_GRACE_S = 10.0
"""A process that scores has so long to end by itself after whom it works for."""
_PROGRESS_S = 1.0
"""It says no more often that it got further."""
_loaded = threading.Event()


def main(fd: int, folder: str) -> None:
    """Load, say so, and score until the other side hangs up."""
    tempfile.tempdir = folder  # removed by who started this process too, where this one is killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this process, who then ends it
    connection = socket.socket(fileno=fd)
    threading.Thread(target=_end_with_caller, args=(fd, folder), daemon=True).start()
    frames: FrameReader[ToEngine] = FrameReader(ToEngine)
    try:
        if not (messages := _receive(connection, frames)):
            return
        start, *early = messages
        if isinstance(start, StartExported):
            _serve_pairs(connection, frames, start, early)
        elif isinstance(start, Start):
            _serve(connection, frames, start, early)
        else:
            raise ProtocolError(f"{type(start).__name__} came before Start")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the other side is gone
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _receive(connection: socket.socket, frames: FrameReader[ToEngine]) -> list[ToEngine]:
    """The next messages, one or more; none where the other side hung up."""
    while data := connection.recv(CHUNK):
        if messages := list(frames.feed(data)):
            return messages
    return []


def _end_with_caller(fd: int, folder: str) -> None:
    """End this process and those it started soon after the other end of the socket is gone; while it loads, at once."""
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    poll.poll()
    if _loaded.is_set():
        time.sleep(_GRACE_S)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


def _serve(
    connection: socket.socket, frames: FrameReader[ToEngine], start: Start, messages: Sequence[ToEngine]
) -> None:
    os.nice(start.nice)
    try:
        engine = _load(start)
    except Exception as error:
        _not_started(connection, error)
        return
    _loaded.set()
    if hasattr(engine, "on_pass"):
        engine.on_pass = _ProgressSender(connection)
    try:
        connection.sendall(framed(Ready(engine.name, _IN_FLIGHT[engine.name], engine.takes_adapters, engine.precision)))
        while messages or (messages := _receive(connection, frames)):
            for reply in _replies(engine, messages):
                connection.sendall(framed(reply))
            messages = []
    finally:
        engine.close()


class _ProgressSender:
    """Says that the engine got further, so that a long list is not taken for a stuck engine."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._said = connection, 0.0

    def __call__(self) -> None:
        if time.monotonic() - self._said > _PROGRESS_S:
            self._said = time.monotonic()
            self._connection.sendall(framed(Progress()))


def _load(start: Start) -> Engine:
    # transformers loads scikit-learn, and pandas, for a kind of text generation, which takes a second.
    with absent("sklearn"):
        from reshelf.inference.engines.engine import choose_engine
        from reshelf.inference.engines.transformers_engine import TransformersEngine

    if choose_engine(start.engine, Path(start.model)) == "transformers":
        engine = TransformersEngine.load(
            Path(start.model), start.precision, start.device, start.trust_remote_code, shares_cores=True
        )
        engine.capture()
        return engine
    import torch

    from reshelf.inference.engines.vllm_engine import VllmEngine
    from reshelf.inference.engines.vllm_settings import VllmSettings, with_precision
    from reshelf.modeling.checkpoint import load_reranker

    trained = load_reranker(Path(start.model), start.device, start.trust_remote_code)
    # On a GPU one vLLM takes all of the memory: other adapters come into it. On a CPU its kernels for them are slow.
    usual = VllmSettings(lora="by_request" if torch.cuda.is_available() else "merged")
    return VllmEngine(trained, with_precision(start.vllm or usual, start.precision))


def _not_started(connection: socket.socket, error: Exception) -> None:
    bad_input = isinstance(error, InputError)
    if not bad_input:
        import traceback

        traceback.print_exc()  # the other side reads it, behind what vLLM's own processes said
        sys.stderr.flush()
    connection.sendall(framed(NotStarted(str(error) if bad_input else _problem(error), bad_input)))


def _problem(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _replies(engine: Engine, messages: Sequence[ToEngine]) -> Iterator[FromEngine]:
    """Replies to messages that came together, in their order; lists that stand together may share a call."""
    for scores, run in groupby(messages, key=lambda message: isinstance(message, Score)):
        if scores:
            run_of_scores = [message for message in run if isinstance(message, Score)]
            for group in _alike(run_of_scores) if engine.name == "vllm" else [[one] for one in run_of_scores]:
                yield from _score(engine, group)
            continue
        for message in run:
            if isinstance(message, LoadAdapter):
                yield _load_adapter(engine, message)
            elif isinstance(message, UnloadAdapter):
                engine.remove_adapter(message.adapter)
            elif isinstance(message, Forget):
                engine.forget(message.namespace)
                yield Forgotten(message.number)
            else:
                raise ProtocolError(f"{type(message).__name__} came to an engine of lists that has started")


def _load_adapter(engine: Engine, message: LoadAdapter) -> AdapterLoaded:
    try:
        engine.add_adapter(message.adapter, Path(message.folder))
    except InputError as error:
        return AdapterLoaded(message.adapter, str(error))
    except Exception as error:  # of one adapter; the others are served
        return AdapterLoaded(message.adapter, _problem(error))
    return AdapterLoaded(message.adapter)


def _alike(messages: Sequence[Score]) -> list[list[Score]]:
    """Those that may share a call of the engine."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for message in messages:
        groups.setdefault((message.namespace, message.adapter), []).append(message)
    return list(groups.values())


def _score(engine: Engine, messages: list[Score]) -> Iterator[Scored | NotScored]:
    """Scores of lists that may share a call; where they fail together, each message alone, so that one does not harm
    others."""
    lists = [[decode_list(one) for one in message.lists] for message in messages]
    before = engine.prompt_tokens, engine.cached_tokens
    start = time.perf_counter()
    try:
        values = engine.score(
            [prompt for group in lists for prompt in group], messages[0].namespace, messages[0].adapter
        )
    except Exception as error:
        if len(messages) > 1:
            for message in messages:
                yield from _score(engine, [message])
            return
        bad_input = isinstance(error, InputError)
        yield NotScored(messages[0].number, str(error) if bad_input else _problem(error), bad_input)
        return
    ms = 1000 * (time.perf_counter() - start)
    spent = (engine.prompt_tokens - before[0], engine.cached_tokens - before[1])
    prompt, cached = (total // len(messages) for total in spent)
    rest = iter(values)
    for message in messages:
        scores = tuple(next(rest).astype("<f4").tobytes() for _ in message.lists)
        yield Scored(message.number, scores, ms, prompt, cached)


def _serve_pairs(
    connection: socket.socket, frames: FrameReader[ToEngine], start: StartExported, messages: Sequence[ToEngine]
) -> None:
    from reshelf.inference.engines.vllm_pairs import VllmPairs

    try:
        engine = VllmPairs(Path(start.folder), start.dtype, start.longest)
    except Exception as error:
        _not_started(connection, error)
        return
    try:
        connection.sendall(framed(Ready("vllm", 1, False)))
        while messages or (messages := _receive(connection, frames)):
            for message in messages:
                if not isinstance(message, ScorePairs):
                    raise ProtocolError(f"{type(message).__name__} came to an engine of pairs")
                values = engine.score(message.left, message.right)
                connection.sendall(framed(Scored(message.number, (values.astype("<f4").tobytes(),))))
            messages = []
    finally:
        engine.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

"""Processes that are forked from one with an engine: they score, or say why not, and leave the parent's alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reshelf.inference.engines.child import EngineChild
from reshelf.inference.engines.engine_process import EngineProcess
from reshelf.inference.engines.fork_lock import ForkLock
from reshelf.inference.engines.messages import Start
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.prompts.list_prompt import ListPrompt


def holds_in_a_fork(claim: Callable[[], bool]) -> bool:
    """Whether it does; a process that hangs is ended."""
    child = os.fork()
    if not child:
        signal.alarm(30)
        try:
            os._exit(0 if claim() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_scores_though_its_parent_has_scored_on_several_cores(
    loaded: TrainedReranker, prompts: list[ListPrompt]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = TransformersEngine(loaded.model)
        expected = engine.score(prompts)

        def same() -> bool:
            return all(map(np.array_equal, engine.score(prompts), expected))

        assert same()
        assert holds_in_a_fork(same)
        assert holds_in_a_fork(lambda: same() and holds_in_a_fork(same))
    finally:
        torch.set_num_threads(threads)


def test_a_fork_waits_for_another_thread_and_finds_the_lock_free() -> None:
    lock, begun, go_on = ForkLock(), threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        go_on.wait(20)
        done.append("work")

    thread = threading.Thread(target=lambda: lock.run(work))
    thread.start()
    begun.wait(20)
    threading.Timer(0.3, go_on.set).start()
    assert holds_in_a_fork(lambda: lock.run(lambda: done == ["work"]))
    thread.join()
    assert lock.run(lambda: True)


def test_a_forks_computing_begins_after_it() -> None:
    lock, here = ForkLock(), threading.get_ident()
    assert lock.run(threading.get_ident) == here
    torch.set_num_threads(torch.get_num_threads())
    assert holds_in_a_fork(lambda: lock.run(threading.get_ident) != here)
    with pytest.raises(ZeroDivisionError):
        lock.run(lambda: 1 // 0)


def test_a_fork_that_ends_leaves_the_engine_of_its_parent() -> None:
    child = EngineChild()
    files = Path(child._files.name)

    def end() -> bool:
        child.end()
        return child._files._finalizer.detach() is None  # type: ignore[attr-defined]

    try:
        assert holds_in_a_fork(end)
        assert child.process.poll() is None
        assert files.exists()
    finally:
        child.end()


def test_a_fork_does_not_read_scores_that_are_its_parents(reranker_folder: Path, prompts: list[ListPrompt]) -> None:
    with EngineProcess(Start(str(reranker_folder), "transformers", "cpu")) as engine:
        expected = engine.score(prompts)

        def refused() -> bool:
            with pytest.raises(RuntimeError, match=f"belongs to process {parent}, which forked this one"):
                engine.score(prompts)
            engine.close()
            return True

        parent = os.getpid()
        assert holds_in_a_fork(refused)
        assert all(map(np.array_equal, engine.score(prompts), expected))

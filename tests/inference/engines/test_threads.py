"""A pass gets as many threads as it is worth, and no more than there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from reshelf.inference.engines import threads, transformers_engine
from reshelf.inference.engines.threads import WORTH_A_THREAD, threads_for
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.prompts.list_prompt import ListPrompt


@pytest.fixture
def four() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("worth", "found"), [(0, 1), (0.9, 1), (1.9, 1), (2.1, 2), (3.5, 3), (100, 4)])
def test_threads_are_what_the_work_is_worth(worth: float, found: int, four: None) -> None:
    with threads_for(int(worth * WORTH_A_THREAD)):
        assert torch.get_num_threads() == found
    assert torch.get_num_threads() == 4


def test_a_pass_that_fails_leaves_the_threads_there_were(four: None) -> None:
    with pytest.raises(ValueError, match="no"), threads_for(0):
        raise ValueError("no")
    assert torch.get_num_threads() == 4


def test_an_engine_counts_tokens_and_weights(
    loaded: TrainedReranker, prompts: list[ListPrompt], four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = transformers_engine.score

    def score(model: Any, batch: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return plain(model, batch)

    monkeypatch.setattr(transformers_engine, "score", score)
    engine, alone = TransformersEngine(loaded.model, shares_cores=True), TransformersEngine(loaded.model)
    linear = [layer for layer in loaded.model.modules() if isinstance(layer, torch.nn.Linear)]
    weights = sum(layer.in_features * layer.out_features for layer in linear)
    prompt = prompts[0]
    work = (len(prompt.prefix) + sum(map(len, prompt.items))) * weights
    for worth, found in ((work + 1, 1), (work // 2, 2), (work // 50, 4)):
        monkeypatch.setattr(threads, "WORTH_A_THREAD", worth)
        engine.forget()
        engine.score([prompt])
        assert seen.pop() == found
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 2 * work)
    alone.score([prompt])
    assert seen == [4], "in a caller's own process their threads are left alone"

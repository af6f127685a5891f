"""What is known of a prefix: the longest common beginning, the right scores behind it, and a bound on memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reshelf.modeling.attention_flex import flex
from reshelf.modeling.attention_pieces import pieces
from reshelf.modeling.packing import pack
from reshelf.modeling.prefix_cache import WORTH, Past, PrefixCache
from reshelf.modeling.score import score
from reshelf.prompts.list_prompt import ListPrompt

FAMILIES = ["qwen3", "llama", "mistral", "gemma", "gemma3_text"]
MIXED = ["sliding_attention", "full_attention"]


def read(model: Any, prompt: ListPrompt, past: Past | None = None) -> tuple[torch.Tensor, Past]:
    kept = Past(prompt.prefix)
    with torch.no_grad():
        return score(model, pack([prompt], past, [kept])), kept


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_behind_a_known_beginning(
    family: str,
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:
    """Half of the prefix known, or all of it, and what is kept then serves the next list."""
    model = with_head(tiny_model(family))
    (prompt,) = make_lists((60, [5, 9, 2, 9]))
    expected, kept = read(model, prompt)
    for length in (1, 40, 59, 60):
        found, again = read(model, prompt, kept.first(length))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        for layer, pair in again.layers.items():
            torch.testing.assert_close(pair, kept.layers[layer], rtol=1e-5, atol=1e-5)
    wrong = replace(prompt, prefix=prompt.prefix[::-1].copy())
    assert float((read(model, wrong, kept.first(40))[0] - read(model, wrong)[0]).abs().max()) > 1e-3


@settings(max_examples=15)
@given(data=st.data())
def test_any_list_behind_any_beginning(
    data: st.DataObject,
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    (prompt,) = make_lists((data.draw(st.integers(1, 50)), lengths), seed=data.draw(st.integers(0, 99)))
    model = with_head(tiny_model())
    expected, kept = read(model, prompt)
    known = data.draw(st.integers(1, len(prompt.prefix)))
    torch.testing.assert_close(read(model, prompt, kept.first(known))[0], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_windows_behind_any_beginning(
    data: st.DataObject,
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:
    """Windows that end in the beginning, at the seams, and in the item; and what is kept is whole all the same."""
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    (prompt,) = make_lists((data.draw(st.integers(1, 50)), lengths), seed=data.draw(st.integers(0, 99)))
    model = with_head(tiny_model("gemma3_text", sliding_window=data.draw(st.integers(1, 60)), layer_types=MIXED))
    expected, kept = read(model, prompt)
    known = kept.first(data.draw(st.integers(1, len(prompt.prefix))))
    found, again = read(model, prompt, known)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for layer, pair in again.layers.items():
        torch.testing.assert_close(pair, kept.layers[layer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 6, 12, 20, 33, 44])
def test_flex_agrees_with_pieces(window: int | None, make_lists: Callable[..., list[ListPrompt]]) -> None:
    (prompt,) = make_lists((40, [5, 9, 2]))
    layout = pack([prompt], past=Past(prompt.prefix[:30])).layout
    q, k, v = (torch.randn(1, heads, 26, 16) for heads in (4, 2, 2))
    past = torch.randn(1, 2, 30, 16), torch.randn(1, 2, 30, 16)
    found, expected = (attend(q, k, v, layout, 0.3, past, window) for attend in (flex, pieces))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def known(tokens: np.ndarray) -> Past:
    """Eight bytes a token."""
    return Past(tokens, {0: (torch.zeros(1, 1, len(tokens), 1), torch.zeros(1, 1, len(tokens), 1))})


@given(data=st.data())
def test_the_longest_common_beginning_is_found(data: st.DataObject) -> None:
    """Against comparing token by token."""
    start = np.arange(WORTH)
    tails = st.lists(st.integers(0, 2), max_size=6)
    entries = [np.concatenate([start, tail]).astype(np.int32) for tail in data.draw(st.lists(tails, max_size=5))]
    wanted = np.concatenate([start, data.draw(tails)]).astype(np.int32)
    cache = PrefixCache(1 << 20)
    for entry in entries:
        cache.add(known(entry))
    best = 0
    for entry in entries:
        shared = 0
        while shared < min(len(entry), len(wanted)) and entry[shared] == wanted[shared]:
            shared += 1
        best = max(best, shared)
    found = cache.find(wanted)
    assert (0 if found is None else len(found)) == best
    if found is not None:
        assert found.tokens.tolist() == wanted[:best].tolist()
        assert found.layers[0][0].shape[2] == best


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(3 * 40 * 8)
    prompts = [np.full(40, n, dtype=np.int32) for n in range(4)]
    for prompt in prompts[:3]:
        cache.add(known(prompt))
    assert cache.find(prompts[0]) is not None
    cache.add(known(prompts[0]))  # again: counted once
    cache.add(known(prompts[3]))
    assert len(cache) == 3
    assert [cache.find(prompt) is not None for prompt in prompts] == [True, False, True, True]
    cache.add(known(np.full(200, 9, dtype=np.int32)))
    assert len(cache) == 3, "what alone is over the limit is not kept"


def test_short_beginnings_are_not_looked_up() -> None:
    cache = PrefixCache(1 << 20)
    cache.add(known(np.arange(WORTH - 1, dtype=np.int32)))
    assert len(cache) == 0
    cache.add(known(np.arange(100, dtype=np.int32)))
    assert cache.find(np.arange(WORTH - 1, dtype=np.int32)) is None
    assert cache.find(np.arange(WORTH, dtype=np.int32)) is not None


def test_what_is_forgotten_is_gone_of_every_adapter_and_of_that_namespace_only() -> None:
    cache = PrefixCache(1 << 20)
    tokens = np.arange(2 * WORTH, dtype=np.int32)
    for namespace, adapter in (("shop", ""), ("shop", "adapter1"), ("another", "")):
        cache.add(known(tokens), namespace, adapter)
    assert cache.find(tokens, "another", "adapter1") is None
    cache.forget("shop")
    assert len(cache) == 1
    assert cache.find(tokens, "shop") is None
    assert cache.find(tokens, "shop", "adapter1") is None
    assert cache.find(tokens, "another") is not None
    cache.forget("another")
    assert (len(cache), cache._size) == (0, 0)

"""The row of a batch: nothing twice, nothing left out, every item continues its prefix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from reshelf.modeling.packing import pack
from reshelf.prompts.list_prompt import ListPrompt

SHAPES = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 6), min_size=1, max_size=5)), min_size=1, max_size=4
)


@given(shapes=SHAPES)
def test_the_layout_covers_every_token_once(
    shapes: list[tuple[int, list[int]]], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    prompts = make_lists(*shapes)
    batch = pack(prompts)
    total = sum(prefix + sum(lengths) for prefix, lengths in shapes)
    assert batch.input_ids.shape == batch.position_ids.shape == (1, total)
    seen = np.zeros(total, dtype=int)
    for part, prompt in zip(batch.layout.parts, prompts, strict=True):
        prefix, items = part.prefix, part.items
        seen[prefix.rows] += 1
        assert batch.input_ids[0, prefix.rows].tolist() == prompt.prefix.tolist()
        assert batch.position_ids[0, prefix.rows].tolist() == list(range(len(prompt.prefix)))
        tokens = torch.arange(total)[items.rows]
        blocks = items.blocks(tokens[None, None])[:, 0]
        assert blocks.shape == (len(prompt.items), max(map(len, prompt.items)))
        for row, item in zip(blocks, prompt.items, strict=True):
            real = row[: len(item)]
            seen[real.numpy()] += 1
            assert batch.input_ids[0, real].tolist() == item.tolist()
            assert batch.position_ids[0, real].tolist() == list(range(prefix.tokens, prefix.tokens + len(item)))
            assert not row[len(item) :].any(), "slots behind an item's end are empty"
        assert torch.equal(items.unblock(blocks[:, None]), tokens[None, None])
    assert (seen == 1).all()


@given(shapes=SHAPES)
def test_score_positions_are_the_ends_of_the_items(
    shapes: list[tuple[int, list[int]]], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    prompts = make_lists(*shapes)
    ends = [int(item[-1]) for prompt in prompts for item in prompt.items]
    batch = pack(prompts)
    assert batch.sizes == tuple(len(prompt.items) for prompt in prompts)
    assert len(set(batch.score_positions.tolist())) == sum(batch.sizes)
    assert batch.input_ids[0, batch.score_positions].tolist() == ends


@given(shapes=SHAPES)
def test_owners(shapes: list[tuple[int, list[int]]], make_lists: Callable[..., list[ListPrompt]]) -> None:
    """Every token knows its list, its item and its position."""
    batch = pack(make_lists(*shapes))
    lists = [n for n, (prefix, _) in enumerate(shapes) for _ in range(prefix)]
    items = [0] * len(lists)
    for n, (_, lengths) in enumerate(shapes):
        lists += [n] * sum(lengths)
        items += [k for k, length in enumerate(lengths, start=1) for _ in range(length)]
    assert batch.layout.owners.tolist() == [lists, items, batch.position_ids[0].tolist()]
    assert batch.layout.longest == max(prefix + max(lengths) for prefix, lengths in shapes)


def test_types_and_moving(make_lists: Callable[..., list[ListPrompt]]) -> None:
    batch = pack(make_lists((3, [2, 1])))
    assert {t.dtype for t in (batch.input_ids, batch.position_ids, batch.score_positions)} == {torch.int64}
    moved = batch.to("meta")
    assert moved.input_ids.is_meta
    assert moved.layout.parts[0].items.slots is not None
    assert moved.layout.parts[0].items.slots.is_meta

"""The row of a batch: nothing twice, nothing left out, every item continues its prefix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from reshelf.modeling.packing import pack
from reshelf.prompts.builder import ListPrompt

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
    for part, prompt in zip(batch.layout, prompts, strict=True):
        seen[part.start : part.start + part.prefix] += 1
        assert batch.input_ids[0, part.start : part.start + part.prefix].tolist() == prompt.prefix.tolist()
        assert batch.position_ids[0, part.start : part.start + part.prefix].tolist() == list(range(part.prefix))
        assert part.own is not None
        first = part.start + part.prefix
        for k, item in enumerate(prompt.items):
            row = first + part.own[k]
            real = row if part.valid is None else row[part.valid[k]]
            seen[real.numpy()] += 1
            assert batch.input_ids[0, real].tolist() == item.tolist()
            assert batch.position_ids[0, real].tolist() == list(range(part.prefix, part.prefix + len(item)))
            assert set(row[len(item) :].tolist()) <= {int(row[len(item) - 1])}, "padding repeats the last token"
    assert (seen == 1).all()


@given(shapes=SHAPES)
def test_score_positions_are_the_ends_of_the_items(
    shapes: list[tuple[int, list[int]]], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    prompts = make_lists(*shapes)
    ends = [int(item[-1]) for prompt in prompts for item in prompt.items]
    for joint in (False, True):
        batch = pack(prompts, joint=joint)
        assert batch.sizes == tuple(len(prompt.items) for prompt in prompts)
        assert len(set(batch.score_positions.tolist())) == sum(batch.sizes)
        assert batch.input_ids[0, batch.score_positions].tolist() == ends


@given(shapes=SHAPES)
def test_joint_lists_are_plain_text(
    shapes: list[tuple[int, list[int]]], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    batch = pack(make_lists(*shapes), joint=True)
    assert batch.position_ids[0].tolist() == [i for prefix, lengths in shapes for i in range(prefix + sum(lengths))]
    assert all(part.own is None and part.items == 0 for part in batch.layout)
    assert batch.layout[-1].start + batch.layout[-1].prefix == batch.input_ids.shape[1]


def test_types_and_moving(make_lists: Callable[..., list[ListPrompt]]) -> None:
    batch = pack(make_lists((3, [2, 1])))
    assert {t.dtype for t in (batch.input_ids, batch.position_ids, batch.score_positions)} == {torch.int64}
    moved = batch.to("meta")
    assert moved.input_ids.is_meta
    assert moved.layout[0].own is not None
    assert moved.layout[0].own.is_meta
    assert moved.layout[0].valid is not None
    assert moved.layout[0].valid.is_meta

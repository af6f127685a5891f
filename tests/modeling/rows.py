"""Rows of random lists, as the tests of attention need them."""

from __future__ import annotations

import numpy as np

from reshelf.modeling.packing import Layout, pack
from reshelf.prompts.list_prompt import ListPrompt, Truncated


def layout_of(shapes: list[tuple[int, list[int]]]) -> Layout:
    ids = np.arange(max(prefix for prefix, _ in shapes) + 200)
    prompts = [ListPrompt("", ids[:prefix], tuple(ids[:n] for n in lengths), Truncated()) for prefix, lengths in shapes]
    return pack(prompts).layout

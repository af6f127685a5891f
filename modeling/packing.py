"""Lists as one row of tokens: [prefix | item 1 | … | item K], list after list, with no padding at all.

    batch = pack([builder.build(ranking) for ranking in lists])
    batch.input_ids.shape      # [1, T], T = the number of distinct tokens

With `joint=False` an item continues the prefix: its positions start where the prefix ends, whatever its place in the
row, and `layout` tells the shared-prefix attention what it may see. With `joint=True` the list is plain causal text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from reshelf.prompts.builder import ListPrompt


@dataclass(frozen=True)
class ListLayout:
    """Where one list lies in the row."""

    start: int
    """First token of the prefix."""
    prefix: int
    """Tokens in the prefix, P."""
    items: int
    """Tokens in all items together; 0 when joint."""
    own: torch.Tensor | None
    """int64 [K, L]: each item's tokens, counted from the first item token, padded at the end with the item's last
    token; None when joint."""
    valid: torch.Tensor | None
    """bool [K, L]: which of `own` are real tokens; None when all are, or when joint."""


@dataclass(frozen=True)
class PackedBatch:
    """Model input for one or more lists."""

    input_ids: torch.Tensor
    """int64 [1, T]."""
    position_ids: torch.Tensor
    """int64 [1, T]."""
    score_positions: torch.Tensor
    """int64 [N]: the last token of every candidate, all lists one after the other."""
    sizes: tuple[int, ...]
    """Candidates per list; they sum to N."""
    layout: tuple[ListLayout, ...]

    def to(self, device: torch.device | str) -> PackedBatch:
        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device)

        return PackedBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.score_positions.to(device),
            self.sizes,
            tuple(replace(part, own=move(part.own), valid=move(part.valid)) for part in self.layout),
        )


def pack(prompts: Sequence[ListPrompt], joint: bool = False) -> PackedBatch:
    """Lay lists out in one row.

    Args:
        prompts: at least one list, each with at least one candidate.
        joint: candidates see those before them (plain causal attention).
    """
    ids, positions, ends, layout = [], [], [], []
    start = 0
    for prompt in prompts:
        prefix = len(prompt.prefix)
        lengths = np.array([len(item) for item in prompt.items])
        offsets = np.cumsum(lengths) - lengths
        total = prefix + int(lengths.sum())
        ids += [prompt.prefix, *prompt.items]
        ends.append(start + prefix + offsets + lengths - 1)
        if joint:
            positions.append(np.arange(total))
            layout.append(ListLayout(start, total, 0, None, None))
        else:
            inside = np.arange(lengths.max())
            positions += [np.arange(prefix), *(prefix + inside[:n] for n in lengths)]
            own = offsets[:, None] + np.minimum(inside, lengths[:, None] - 1)
            valid = None if lengths.min() == lengths.max() else torch.from_numpy(inside < lengths[:, None])
            layout.append(ListLayout(start, prefix, total - prefix, torch.from_numpy(own), valid))
        start += total
    return PackedBatch(
        input_ids=torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
        position_ids=torch.from_numpy(np.concatenate(positions).astype(np.int64))[None],
        score_positions=torch.from_numpy(np.concatenate(ends).astype(np.int64)),
        sizes=tuple(len(prompt.items) for prompt in prompts),
        layout=tuple(layout),
    )

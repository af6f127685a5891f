"""Lists as one row of tokens: [prefix | item 1 | … | item K], list after list, with no padding at all.

    batch = pack([builder.build(ranking) for ranking in lists])
    batch.input_ids.shape      # [1, T], T = the number of distinct tokens

An item continues the prefix: its positions start where the prefix ends, whatever its place in the row, and `layout`
tells the shared-prefix attention what it may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from reshelf.modeling.prefix_cache import Past
from reshelf.prompts.builder import ListPrompt


@dataclass(frozen=True)
class ListLayout:
    """Where one list lies in the row. Its items are also seen as a block of `count` x `longest` slots."""

    start: int
    """First token of the prefix."""
    prefix: int
    """Tokens in the prefix, P."""
    items: int = 0
    """Tokens in all items together, N."""
    count: int = 0
    """Items, K; 0 for plain causal text, which is all prefix."""
    longest: int = 0
    """Tokens in the longest item, L."""
    slots: torch.Tensor | None = None
    """int64 [N]: each item token's slot, k · L + its place in item k; None where every item fills its L slots."""

    @property
    def spans(self) -> tuple[slice, slice]:
        """The tokens of the prefix and those of the items, as slices of the row."""
        middle = self.start + self.prefix
        return slice(self.start, middle), slice(middle, middle + self.items)

    def blocks(self, x: torch.Tensor) -> torch.Tensor:
        """[1, H, N, …] to [K, H, L, …], item by item; slots behind an item's end are 0."""
        if self.slots is not None:
            wide = x.new_zeros(*x.shape[:2], self.count * self.longest, *x.shape[3:])
            x = wide.index_copy_(2, self.slots, x)
        return x[0].unflatten(1, (self.count, self.longest)).transpose(0, 1)

    def unblock(self, x: torch.Tensor) -> torch.Tensor:
        """[K, H, L, …] to [1, H, N, …], the opposite of `blocks`."""
        x = x.transpose(0, 1).flatten(1, 2)[None]
        return x if self.slots is None else x.index_select(2, self.slots)


@dataclass(frozen=True, eq=False)
class Layout:
    """What the tokens of a row may see: one part per list, in the order of the row."""

    parts: tuple[ListLayout, ...]
    past: Past | None = None
    """The beginning of the only list's prefix, which is not in the row."""
    keep: tuple[Past, ...] = ()
    """Filled with the keys and values of each list's prefix."""

    @classmethod
    def causal(cls, length: int) -> Layout:
        """A row that is one plain causal sequence."""
        return cls((ListLayout(0, length),))

    def to(self, device: torch.device | str) -> Layout:
        parts = tuple(p if p.slots is None else replace(p, slots=p.slots.to(device)) for p in self.parts)
        return replace(self, parts=parts)

    @property
    def behind(self) -> int:
        """Tokens of `past`."""
        return 0 if self.past is None else len(self.past)

    @property
    def longest(self) -> int:
        """Tokens in the longest prompt, prefix + item."""
        return self.behind + max(part.prefix + part.longest for part in self.parts)

    @cached_property
    def owners(self) -> torch.Tensor:
        """int32 [2, T]: the list a token belongs to, and its item counted from 1; 0 means the prefix."""
        lists, items = [], []
        for n, part in enumerate(self.parts):
            own = np.arange(part.items) if part.slots is None else part.slots.cpu().numpy()
            lists.append(np.full(part.prefix + part.items, n))
            items += [np.zeros(part.prefix), own // max(part.longest, 1) + 1]
        return torch.from_numpy(np.stack([np.concatenate(lists), np.concatenate(items)]).astype(np.int32))


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
    layout: Layout

    def to(self, device: torch.device | str) -> PackedBatch:
        return PackedBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.score_positions.to(device),
            self.sizes,
            self.layout.to(device),
        )

    @property
    def padded_share(self) -> float:
        """Empty slots beside all tokens of the row. They take part in an item's attention to itself, nothing else."""
        empty = sum(part.count * part.longest - part.items for part in self.layout.parts)
        return empty / (self.input_ids.shape[1] + empty)


def pack(
    prompts: Sequence[ListPrompt],
    past: Past | None = None,
    keep: Sequence[Past] = (),
) -> PackedBatch:
    """Lay lists out in one row.

    Args:
        prompts: at least one list, each with a prefix and at least one candidate.
        past: with one list: the beginning of its prefix, read before; the row begins behind it.
        keep: one for each list, to be filled with the keys and values of its prefix. No gradients then.
    """
    ids, positions, ends, parts = [], [], [], []
    start, behind = 0, 0 if past is None else len(past)
    for prompt in prompts:
        prefix = len(prompt.prefix) - behind
        lengths = np.array([len(item) for item in prompt.items])
        offsets = np.cumsum(lengths) - lengths
        items = int(lengths.sum())
        ids += [prompt.prefix[behind:], *prompt.items]
        ends.append(start + prefix + offsets + lengths - 1)
        inside = np.arange(items) - np.repeat(offsets, lengths)
        positions += [behind + np.arange(prefix), behind + prefix + inside]
        longest = int(lengths.max())
        slots = None
        if lengths.min() < longest:
            slots = torch.from_numpy(np.repeat(np.arange(len(lengths)) * longest, lengths) + inside)
        parts.append(ListLayout(start, prefix, items, len(lengths), longest, slots))
        start += prefix + items
    return PackedBatch(
        input_ids=torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
        position_ids=torch.from_numpy(np.concatenate(positions).astype(np.int64))[None],
        score_positions=torch.from_numpy(np.concatenate(ends).astype(np.int64)),
        sizes=tuple(len(prompt.items) for prompt in prompts),
        layout=Layout(tuple(parts), past, tuple(keep)),
    )

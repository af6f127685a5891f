"""Lists as one row of tokens, all prefixes before all items, with no padding at all.

    batch = pack([builder.build(ranking) for ranking in lists])
    batch.input_ids.shape      # [1, T], T = the number of distinct tokens

    [prefix of list 1 | … | prefix of list B | items of list 1 | … | items of list B]

An item continues its list's prefix: its positions start where the prefix ends, whatever its place in the row, and
`layout` tells the shared-prefix attention what it may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch

from reshelf.modeling.prefix_cache import Past
from reshelf.prompts.list_prompt import ListPrompt


@dataclass(frozen=True)
class Sequences:
    """Tokens of the row that are one or more sequences, one after the other, which continue the same tokens.

    They are also seen as a block of `count` x `longest` slots.
    """

    start: int
    """First token."""
    tokens: int = 0
    """Tokens in all sequences together, N."""
    count: int = 1
    """Sequences, K."""
    longest: int = 0
    """Tokens in the longest sequence, L."""
    slots: torch.Tensor | None = None
    """int64 [N]: each token's slot, k · L + its place in sequence k; None where every sequence fills its L slots."""

    @property
    def rows(self) -> slice:
        """The tokens, as a slice of the row."""
        return slice(self.start, self.start + self.tokens)

    @property
    def places(self) -> torch.Tensor:
        """int64 [N]: each token's place in its sequence."""
        return torch.arange(self.longest).repeat(self.count) if self.slots is None else self.slots % self.longest

    def blocks(self, x: torch.Tensor) -> torch.Tensor:
        """[1, H, N, …] to [K, H, L, …], sequence by sequence; slots behind a sequence's end are 0."""
        if self.slots is not None:
            wide = x.new_zeros(*x.shape[:2], self.count * self.longest, *x.shape[3:])
            x = wide.index_copy_(2, self.slots, x)
        return x[0].unflatten(1, (self.count, self.longest)).transpose(0, 1)

    def unblock(self, x: torch.Tensor) -> torch.Tensor:
        """[K, H, L, …] to [1, H, N, …], the opposite of `blocks`."""
        x = x.transpose(0, 1).flatten(1, 2)[None]
        return x if self.slots is None else x.index_select(2, self.slots)

    def to(self, device: torch.device | str) -> Sequences:
        return self if self.slots is None else replace(self, slots=self.slots.to(device))


@dataclass(frozen=True)
class ListLayout:
    """Where one list lies in the row: its prefix, and its items, which continue it."""

    prefix: Sequences
    """One sequence; without a token where all of the prefix was read before."""
    items: Sequences
    """Without a token for plain causal text, which is all prefix."""


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The same for kernels that take cumulative lengths, all int32 and on the row's device.

    Every token sees its own sequence up to itself. Beside that, the tokens of stretch n of `queries` see those of
    stretch n of `keys`: items see their list's prefix, and the prefixes, which are the first stretch, no more. The last
    stretch has no queries, and the items as keys: kernels write no gradient of keys that are in no stretch.
    """

    sequences: torch.Tensor
    """[S + 1]: where each prefix and each item begins, and the end of the row."""
    queries: torch.Tensor
    """[B + 3]: 0, the end of the prefixes, the end of each list's items, and the end of the row."""
    keys: torch.Tensor
    """[B + 3]: 0, 0, the end of each list's prefix, and the end of the row."""
    longest: tuple[int, int, int]
    """At least the longest stretch of each."""

    def to(self, device: torch.device | str) -> Boundaries:
        return Boundaries(self.sequences.to(device), self.queries.to(device), self.keys.to(device), self.longest)


def boundaries(prefixes: Sequence[int], items: Sequence[np.ndarray]) -> Boundaries:
    """Of lists whose prefixes, and whose items, are so many tokens long."""
    lists = [int(lengths.sum()) for lengths in items]
    cumulative = [np.cumsum(lengths) for lengths in (
        [0, *prefixes, *np.concatenate(items).tolist()], [0, sum(prefixes), *lists, 0], [0, 0, *prefixes, sum(lists)],
    )]  # fmt: skip
    sequences, queries, keys = (torch.from_numpy(ends.astype(np.int32)) for ends in cumulative)
    sequence, query, key = (int(np.diff(ends).max()) for ends in cumulative)
    return Boundaries(sequences, queries, keys, (sequence, query, key))


@dataclass(frozen=True, eq=False)
class Layout:
    """What the tokens of a row may see: one part per list."""

    parts: tuple[ListLayout, ...]
    boundaries: Boundaries
    past: Past | None = None
    """The beginning of the only list's prefix, which is not in the row."""
    keep: tuple[Past, ...] = ()
    """Filled with the keys and values of each list's prefix."""

    @classmethod
    def causal(cls, length: int) -> Layout:
        """A row that is one plain causal sequence."""
        parts = (ListLayout(Sequences(0, length, longest=length), Sequences(length)),)
        return cls(parts, boundaries([length], [np.zeros(0, dtype=np.int64)]))

    def to(self, device: torch.device | str) -> Layout:
        parts = tuple(ListLayout(part.prefix, part.items.to(device)) for part in self.parts)
        return replace(self, parts=parts, boundaries=self.boundaries.to(device))

    @property
    def behind(self) -> int:
        """Tokens of `past`."""
        return 0 if self.past is None else len(self.past)

    @property
    def longest(self) -> int:
        """Tokens in the longest prompt, prefix + item."""
        return self.behind + max((part.prefix.tokens + part.items.longest for part in self.parts), default=0)

    @cached_property
    def owners(self) -> torch.Tensor:
        """int32 [3, T]: the list a token belongs to; its item counted from 1, where 0 means the prefix; and its
        position in the prompt."""
        prefixes, all_items = [], []
        for n, part in enumerate(self.parts):
            prefix, items = part.prefix.tokens, part.items
            slots = np.arange(items.tokens) if items.slots is None else items.slots.cpu().numpy()
            item, place = np.divmod(slots, max(items.longest, 1))
            prefixes.append([np.full(prefix, n), np.zeros(prefix), self.behind + np.arange(prefix)])
            all_items.append([np.full(items.tokens, n), item + 1, self.behind + prefix + place])
        return torch.from_numpy(np.concatenate([*prefixes, *all_items], axis=1).astype(np.int32))


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


def in_row_order(prefixes: Sequence[np.ndarray], items: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Numbers of the tokens of lists, int64 [T], as the row has the tokens: ids, or what each is to be followed by.

    Args:
        prefixes: per list, those of its prefix, [P].
        items: per list and item, those of the item, [L].
    """
    return np.concatenate([*prefixes, *chain.from_iterable(items)]).astype(np.int64)


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
    behind = 0 if past is None else len(past)
    prefixes = [len(prompt.prefix) - behind for prompt in prompts]
    lengths = [np.array([len(item) for item in prompt.items]) for prompt in prompts]
    positions, ends, parts = [behind + np.arange(prefix) for prefix in prefixes], [], []
    begin, start = 0, sum(prefixes)
    for prefix, of_items in zip(prefixes, lengths, strict=True):
        offsets = np.cumsum(of_items) - of_items
        items, longest = int(of_items.sum()), int(of_items.max())
        ends.append(start + offsets + of_items - 1)
        inside = np.arange(items) - np.repeat(offsets, of_items)
        positions.append(behind + prefix + inside)
        slots = None
        if of_items.min() < longest:
            slots = torch.from_numpy(np.repeat(np.arange(len(of_items)) * longest, of_items) + inside)
        own = Sequences(start, items, len(of_items), longest, slots)
        parts.append(ListLayout(Sequences(begin, prefix, longest=prefix), own))
        begin, start = begin + prefix, start + items
    ids = in_row_order([prompt.prefix[behind:] for prompt in prompts], [prompt.items for prompt in prompts])
    return PackedBatch(
        input_ids=torch.from_numpy(ids)[None],
        position_ids=torch.from_numpy(np.concatenate(positions).astype(np.int64))[None],
        score_positions=torch.from_numpy(np.concatenate(ends).astype(np.int64)),
        sizes=tuple(len(prompt.items) for prompt in prompts),
        layout=Layout(tuple(parts), boundaries(prefixes, lengths), past, tuple(keep)),
    )

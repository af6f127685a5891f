"""Shared-prefix attention from torch's own flash attention: plain and causal calls, merged, and no mask.

    out = pieces(query, key, value, batch.layout, scale)

A token of an item sees two sets of keys, the prefix and its own item up to itself. Each set is one flash attention call
with its own softmax; calls are merged by their log-sum-exps into the softmax over all keys (Dao et al.,
FlashAttention, 2022, §3.1). The backward pass of each call needs only the merged output and log-sum-exp, so no weights
are ever stored. The prefix's keys and values exist once and are read by the items of a list as one long query.

**Sliding windows** of w tokens take more calls of the same two kinds. A sequence longer than w is cut into chunks of w:
a token sees its chunk up to itself, and the chunk before from behind its own place on. The second is a causal triangle
as well, read from the end to the beginning. Items see the end of the prefix: tokens that all places of an item still
see are one plain call, and the ones before, of which the first places see more, are again such a triangle. So the cost
is tokens times window, whatever the length of the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from reshelf.modeling.flash import backward, forward
from reshelf.modeling.packing import Layout, Sequences


def pieces(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    past: tuple[torch.Tensor, torch.Tensor] | None = None,
    window: int | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention over a packed row.

    Args:
        query: [1, H, T, D].
        key: [1, H_kv, T, D], H a multiple of H_kv; `value` alike.
        past: keys and values of `layout.past`, [1, H_kv, S, D]; no gradients then.
        window: how many tokens of its prompt a token sees, itself counted; None for all.
        sinks: [H], a logit beside the keys' that has no value; None for none.

    Returns:
        [1, T, H, D].
    """
    if past is None and torch.is_grad_enabled():
        out: torch.Tensor = _Pieces.apply(query, key, value, sinks, layout, scale, window)
    else:
        out = _row(query, key, value, sinks, layout, scale, window, past)[0]
    return out.transpose(1, 2)


class _Pieces(torch.autograd.Function):
    """[1, H, T, D] out of [1, H, T, D] and twice [1, H_kv, T, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor | None,
        layout: Layout,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        out, lse = _row(query, key, value, sinks, layout, scale, window)
        ctx.save_for_backward(query, key, value, sinks, out, lse)
        ctx.layout, ctx.scale, ctx.window = layout, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, sinks, out, lse = ctx.saved_tensors
        (grad,), scale, window, heads = grads, ctx.scale, ctx.window, query.shape[1]
        d_query, d_key, d_value = (torch.zeros_like(x) for x in (query, key, value))
        for part in ctx.layout.parts:
            prefix = part.prefix.rows
            for sequences in (part.prefix, part.items):
                if not sequences.tokens:
                    continue
                rows = sequences.rows
                g, q, o, s = (x[:, :, rows] for x in (grad, query, out, lse))
                calls = [(call, rows) for call in _own_calls(sequences, window)]
                if sequences is part.items:
                    calls += [(call, prefix) for call in _context_calls(sequences, part.prefix.tokens, 0, window)]
                for call, keys in calls:
                    # The backward pass of a head is one thread's, so it gets all heads there are: for one key head the
                    # long query took seven times as long.
                    k, v = (call.keys(x[:, :, keys], heads) for x in (key, value))
                    own = [call.queries(x, heads) for x in (g, q, o, s)]
                    dq, dk, dv = backward(own[0], own[1], k, v, own[2], own[3], call.causal, scale)
                    d_query[:, :, rows] += call.tokens(dq, heads, 0.0)
                    call.add_keys(d_key[:, :, keys], dk)
                    call.add_keys(d_value[:, :, keys], dv)
        d_sinks = None
        if sinks is not None:
            share = torch.exp(sinks.to(lse.dtype)[None, :, None] - lse)
            d_sinks = -(share * (grad * out).sum(3)).sum((0, 2)).to(sinks.dtype)
        return d_query, d_key, d_value, d_sinks, None, None, None


def _row(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sinks: torch.Tensor | None,
    layout: Layout,
    scale: float,
    window: int | None,
    past: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [1, H, T, D] of a row, and its log-sum-exp [1, H, T]."""
    _, heads, length, width = query.shape
    # Laid out as [T, H, D]: what the projection after the attention reads.
    out = query.new_empty(1, length, heads, width).transpose(1, 2)
    lse = query.new_empty(1, heads, length, dtype=torch.float32 if query.dtype != torch.float64 else None)
    for part in layout.parts:
        # What sequences continue, and how many tokens before their first one it ends.
        contexts = [] if past is None else [(past, 0)]
        for sequences in (part.prefix, part.items):
            q, k, v = (x[:, :, sequences.rows] for x in (query, key, value))
            if sequences.tokens:
                found = _attend(sequences, q, k, v, contexts, scale, window)
                out[:, :, sequences.rows], lse[:, :, sequences.rows] = found
            contexts = [((k, v), 0), *((pair, gap + sequences.tokens) for pair, gap in contexts)]
    if sinks is not None:
        with_sinks = torch.logaddexp(lse, sinks.to(lse.dtype)[None, :, None])
        out.mul_(torch.exp(lse - with_sinks)[..., None])
        lse = with_sinks
    return out, lse


def _attend(
    sequences: Sequences,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    contexts: Sequence[tuple[tuple[torch.Tensor, torch.Tensor], int]],
    scale: float,
    window: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [1, H, N, D] and log-sum-exp [1, H, N] of sequences that continue the contexts."""
    calls: list[tuple[_Call, tuple[torch.Tensor, torch.Tensor]]]
    calls = [(call, (k, v)) for call in _own_calls(sequences, window)]
    for pair, gap in contexts:
        calls += [(call, pair) for call in _context_calls(sequences, pair[0].shape[2], gap, window)]
    heads = q.shape[1]
    merged: tuple[torch.Tensor, torch.Tensor] | None = None
    for call, pair in calls:
        width = k.shape[1] if isinstance(call, _Shared) else heads
        keys, values = (call.keys(x, width) for x in pair)
        out, lse = forward(call.queries(q, width), keys, values, call.causal, scale)
        found = call.tokens(out, heads, 0.0), call.tokens(lse, heads, float("-inf"))
        merged = found if merged is None else _merge(*found, *merged)
    assert merged is not None, "the first call is there for any sequence"
    return merged


def _own_calls(sequences: Sequences, window: int | None) -> Iterator[_Call]:
    """What tokens see of their own sequence. The first call has a key for every token."""
    if window is None or sequences.longest <= window:
        yield _Own(sequences, sequences.longest)
        return
    yield _Own(sequences, window)
    if window > 1:
        yield _ChunkBefore(sequences, window)


def _context_calls(sequences: Sequences, length: int, gap: int, window: int | None) -> Iterator[_Call]:
    """What sequences see of a context of `length` tokens that ends `gap` tokens before their first ones."""
    if window is None:
        if length:
            yield _Shared(0)
        return
    # Place i sees the tokens from length + i + 1 − reach on.
    reach = window - gap
    places = min(sequences.longest, reach) - 1
    stop = length + places + 1 - reach
    first = max(0, length - reach + 1)
    if sequences.longest <= reach and max(stop, 0) < length:
        yield _Shared(max(stop, 0))
    if first < stop:
        yield _Edge(sequences, places, first, stop)


@dataclass(frozen=True)
class _Shared:
    """Every token to the end of a context, from token `first` on."""

    first: int
    causal = False

    def queries(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """[1, H, N, …] as the queries of a call of so many heads; those that share keys can be one long query."""
        return x if x.shape[1] == heads else x.unflatten(1, (heads, -1)).flatten(2, 3)

    def tokens(self, x: torch.Tensor, heads: int, empty: float) -> torch.Tensor:
        """The opposite: [1, H, N, …], `empty` for tokens that are no queries of this call."""
        return x if x.shape[1] == heads else x.unflatten(2, (heads // x.shape[1], -1)).flatten(1, 2)

    def keys(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """[1, H_kv, N, D] as the keys of a call of so many heads."""
        return _each(x[:, :, self.first :], heads)

    def add_keys(self, target: torch.Tensor, x: torch.Tensor) -> None:
        """Add the call's gradients of its keys to [1, H_kv, N, D]."""
        target[:, :, self.first :] += _sum(x, target.shape[1])


@dataclass(frozen=True)
class _Own:
    """A chunk's tokens to the chunk itself. The methods are those of `_Shared`."""

    sequences: Sequences
    size: int
    causal = True

    def queries(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return _chunks(self.sequences, x, self.size).flatten(0, 1)

    def tokens(self, x: torch.Tensor, heads: int, empty: float) -> torch.Tensor:
        return _joined(self.sequences, x.unflatten(0, (self.sequences.count, -1)))

    def keys(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return _each(self.queries(x, x.shape[1]), heads)

    def add_keys(self, target: torch.Tensor, x: torch.Tensor) -> None:
        target += self.tokens(_sum(x, target.shape[1]), target.shape[1], 0.0)


@dataclass(frozen=True)
class _ChunkBefore:
    """A chunk's tokens to those of the chunk before that are behind their own place; both from end to beginning."""

    sequences: Sequences
    size: int
    causal = True

    def queries(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return _chunks(self.sequences, x, self.size)[:, 1:, :, :-1].flip(3).flatten(0, 1)

    def tokens(self, x: torch.Tensor, heads: int, empty: float) -> torch.Tensor:
        return self._placed(x, slice(1, None), slice(None, -1), empty)

    def keys(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return _each(_chunks(self.sequences, x, self.size)[:, :-1, :, 1:].flip(3).flatten(0, 1), heads)

    def add_keys(self, target: torch.Tensor, x: torch.Tensor) -> None:
        target += self._placed(_sum(x, target.shape[1]), slice(None, -1), slice(1, None), 0.0)

    def _placed(self, x: torch.Tensor, chunks: slice, places: slice, empty: float) -> torch.Tensor:
        """Tokens [1, H, N, …] out of those places of those chunks; the others are `empty`."""
        x = x.unflatten(0, (self.sequences.count, -1)).flip(3)
        whole = x.new_full((x.shape[0], x.shape[1] + 1, x.shape[2], self.size, *x.shape[4:]), empty)
        whole[:, chunks, :, places] = x
        return _joined(self.sequences, whole)


@dataclass(frozen=True)
class _Edge:
    """The first `places` of every sequence to a context's tokens from `first` to `stop`, of which every place sees one
    less than the place before; both from end to beginning."""

    sequences: Sequences
    places: int
    first: int
    stop: int
    causal = True

    def queries(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return self.sequences.blocks(x)[:, :, : self.places].flip(2)

    def tokens(self, x: torch.Tensor, heads: int, empty: float) -> torch.Tensor:
        whole = x.new_full((*x.shape[:2], self.sequences.longest, *x.shape[3:]), empty)
        whole[:, :, : self.places] = x.flip(2)
        return self.sequences.unblock(whole)

    def keys(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        turned = _each(x[:, :, self.first : self.stop].flip(2), heads)
        return turned.expand(self.sequences.count, -1, -1, -1)

    def add_keys(self, target: torch.Tensor, x: torch.Tensor) -> None:
        target[:, :, self.first : self.stop] += _sum(x.sum(0, keepdim=True), target.shape[1]).flip(2)


_Call = _Shared | _Own | _ChunkBefore | _Edge
"""One flash attention call: which tokens are its queries, and which are its keys."""


def _merge(
    a: torch.Tensor, a_lse: torch.Tensor, b: torch.Tensor, b_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One softmax out of two over different keys: outputs [1, H, N, D] and log-sum-exps [1, H, N], −∞ where `a` saw
    nothing."""
    share = torch.sigmoid(a_lse - b_lse)[..., None]
    return torch.lerp(b.to(share.dtype), a.to(share.dtype), share).to(a.dtype), torch.logaddexp(a_lse, b_lse)


def _chunks(sequences: Sequences, x: torch.Tensor, size: int) -> torch.Tensor:
    """[1, H, N, …] to [K, n, H, size, …]: every sequence in chunks; slots behind its end are 0."""
    x = sequences.blocks(x)
    if short := -x.shape[2] % size:
        x = F.pad(x, (*(0, 0) * (x.ndim - 3), 0, short))
    return x.unflatten(2, (-1, size)).transpose(1, 2)


def _joined(sequences: Sequences, x: torch.Tensor) -> torch.Tensor:
    """The opposite of `_chunks`."""
    return sequences.unblock(x.transpose(1, 2).flatten(2, 3)[:, :, : sequences.longest])


def _each(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values [B, H_kv, N, D] for every query head, [B, H, N, D]."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _sum(x: torch.Tensor, groups: int) -> torch.Tensor:
    """The opposite of `_each` for gradients: [B, H, N, D] to [B, H_kv, N, D]."""
    return x if x.shape[1] == groups else x.unflatten(1, (groups, -1)).sum(2)

"""Shared-prefix attention as plain matrix products: in bfloat16 on a CPU, for wide heads.

    out = products(query, key, value, batch.layout, scale)

Torch's flash attention for CPUs multiplies bfloat16 no faster than float32, and a list takes several calls of it
(`modeling.attention_pieces`); oneDNN's matrix products are three times as fast. All that a token may see is one row of
logits: the keys of what its sequence continues, then its own sequence's. So one softmax does, in float32 inside, and
there is nothing to merge. Weights exist for some tokens at a time, and the backward pass computes them again. A prefix
is taken in chunks that each continue the ones before, so that little is computed that causality hides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from reshelf.modeling.packing import Layout, Sequences

_CHUNK = 256
"""Tokens of a prefix taken at one time."""
_LOGITS = 1 << 21
"""Logits held at one time: what fits the caches of a few cores."""

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, each [1, H_kv, N, D]."""


def pays(query: torch.Tensor, sinks: torch.Tensor | None) -> bool:
    """Whether this is the fastest way: not in float32, nor for narrow heads; and it knows no sinks."""
    return query.is_cpu and query.dtype == torch.bfloat16 and query.shape[3] >= 128 and sinks is None


def products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    past: Pair | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Attention over a packed row. Arguments and result as of `attention_pieces.pieces`."""
    if past is None and torch.is_grad_enabled():
        out: torch.Tensor = _Products.apply(query, key, value, layout, scale, window)
    else:
        out = _row(query, key, value, layout, scale, window, past)
    return out.transpose(1, 2)


class _Products(torch.autograd.Function):
    """[1, H, T, D] out of [1, H, T, D] and twice [1, H_kv, T, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: Layout,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.layout, ctx.scale, ctx.window = layout, scale, window
        return _row(query, key, value, layout, scale, window)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for sequences, before in _spans(ctx.layout):
            rows = sequences.rows
            context = key[:, :, before], value[:, :, before]
            span = _Span(query, (key, value), context, sequences, ctx.scale, ctx.window)
            d_query[0, :, rows], d_own, d_context = span.backward(grads[0][0, :, rows])
            seen = slice(before.start + span.first, before.stop)
            for target, of_own, of_context in zip((d_key, d_value), d_own, d_context, strict=True):
                target[:, :, rows] += of_own
                target[0, :, seen] += of_context
        return d_query, d_key, d_value, None, None, None


def _row(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    past: Pair | None = None,
) -> torch.Tensor:
    """Output [1, H, T, D] of a row, laid out as [T, H, D]: what the projection after the attention reads."""
    _, heads, length, width = query.shape
    out = query.new_empty(1, length, heads, width).transpose(1, 2)
    for sequences, before in _spans(layout):
        context = key[:, :, before], value[:, :, before]
        if past is not None:
            context = torch.cat([past[0], context[0]], 2), torch.cat([past[1], context[1]], 2)
        out[0, :, sequences.rows] = _Span(query, (key, value), context, sequences, scale, window).forward()
    return out


def _spans(layout: Layout) -> Iterator[tuple[Sequences, slice]]:
    """Sequences of the row, and the rows that they continue."""
    for part in layout.parts:
        start, stop = part.prefix.rows.start, part.prefix.rows.stop
        for first in range(start, stop, _CHUNK):
            size = min(_CHUNK, stop - first)
            yield Sequences(first, size, longest=size), slice(start, first)
        if part.items.tokens:
            yield part.items, part.prefix.rows


class _Span:
    """Tokens of sequences, N in all, that see the S tokens of a context that all sequences continue, or the last of
    these, and their own sequence up to themselves."""

    def __init__(
        self, query: torch.Tensor, pair: Pair, context: Pair, sequences: Sequences, scale: float, window: int | None
    ) -> None:
        self.sequences, self.scale = sequences, scale
        self.groups, length = pair[0].shape[1], context[0].shape[2]
        self.first = 0 if window is None else max(0, length - window + 1)
        """Token of the context from which on some sequence sees it."""
        self.query = query[0, :, sequences.rows] * scale
        self.blocks = [sequences.blocks(x[:, :, sequences.rows]) for x in pair]
        self.context = [x[0, :, self.first :] for x in context]
        token, places = sequences.places, torch.arange(sequences.longest)
        self.hidden = token[:, None] < places
        """bool [N, L]: what a token does not see of its own sequence."""
        self.out_of_window: torch.Tensor | None = None
        if window is not None:
            self.hidden |= places <= token[:, None] - window
            if length - self.first + sequences.longest > window:
                self.out_of_window = torch.arange(self.first - length, 0) <= token[:, None] - window

    def forward(self) -> torch.Tensor:
        """[H, N, D]."""
        own, out = self._own_logits(), torch.empty_like(self.query)
        for group, part, weights in self._weights(own):
            own[part] = weights[..., -own.shape[2] :]
            out[part] = weights[..., : -own.shape[2]] @ self.context[1][group]
        return out.add_(self._own(own, self.blocks[1]))

    def backward(self, d_out: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Gradients: of the query, [H, N, D]; of keys and values of the sequences, each [1, H_kv, N, D]; and of those
        of the context from `first` on, each [H_kv, S, D].

        Args:
            d_out: of the output, [H, N, D].
        """
        own, d_own = self._own_logits(), self._own(d_out, self.blocks[1].transpose(2, 3))
        d_query, d_context = torch.empty_like(self.query), [torch.zeros_like(x) for x in self.context]
        size = own.shape[2]
        for group, part, weights in self._weights(own):
            keys, values = (x[group] for x in self.context)
            d_weights = torch.cat([d_out[part] @ values.T, d_own[part]], 2)
            d_logits = torch._softmax_backward_data(d_weights, weights, 2, weights.dtype)
            own[part], d_own[part] = weights[..., -size:], d_logits[..., -size:]
            d_query[part] = d_logits[..., :-size] @ keys
            for target, x, by in zip(d_context, (d_logits, weights), (self.query, d_out), strict=True):
                target[group] += x[..., :-size].flatten(0, 1).T @ by[part].flatten(0, 1)
        d_query = d_query.add_(self._own(d_own, self.blocks[0])).mul_(self.scale)
        d_pair = [self._to_keys(d_own, self.query), self._to_keys(own, d_out)]
        return d_query, d_pair, d_context

    def _own_logits(self) -> torch.Tensor:
        return self._own(self.query, self.blocks[0].transpose(2, 3)).masked_fill_(self.hidden, float("-inf"))

    def _weights(self, own: torch.Tensor) -> Iterator[tuple[int, tuple[slice, slice], torch.Tensor]]:
        """Group of heads that share keys, heads and tokens, and their weights, [H / H_kv, n, S + L]."""
        heads, tokens = self.query.shape[0] // self.groups, self.query.shape[1]
        step = max(1, _LOGITS // (heads * (self.context[0].shape[1] + own.shape[2])))
        for group in range(self.groups):
            for start in range(0, tokens, step):
                part = slice(group * heads, (group + 1) * heads), slice(start, start + step)
                logits = self.query[part] @ self.context[0][group].T
                if self.out_of_window is not None:
                    logits.masked_fill_(self.out_of_window[part[1]], float("-inf"))
                yield group, part, torch.softmax(torch.cat([logits, own[part]], 2), 2)

    def _own(self, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        """[H, N, M] times each sequence's own matrix, `by` [K, H_kv, M, O]: [H, N, O]."""
        blocks = self.sequences.blocks(x[None])
        found = (blocks.unflatten(1, (self.groups, -1)).flatten(2, 3) @ by).view(*blocks.shape[:3], -1)
        return self.sequences.unblock(found)[0]

    def _to_keys(self, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        """Sums over the tokens of a sequence, of x [H, N, L] by [H, N, D], for its keys: [1, H_kv, N, D]."""
        a, b = (self.sequences.blocks(one[None]).unflatten(1, (self.groups, -1)).flatten(2, 3) for one in (x, by))
        return self.sequences.unblock(a.transpose(2, 3) @ b)

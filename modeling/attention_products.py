"""Attention of a list's items as plain matrix products, in bfloat16 on a CPU and where nobody needs a gradient.

    out = products(query, key, value, contexts, items, scale)

All that a token may see is one row of logits: the keys of what its item continues, then its own item's. So one softmax
does, and there is nothing to merge. Torch's flash attention for CPUs multiplies bfloat16 no faster than float32, and a
list takes several calls of it (`modeling.attention_pieces`): for 100 items of 42 tokens behind 440 this takes 0.6 of
their time. The softmax is in float32, as theirs is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reshelf.modeling.packing import Sequences

_LOGITS = 1 << 21
"""Logits that are held at one time: what fits the caches of a few cores."""


def products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    contexts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    items: Sequences,
    scale: float,
) -> torch.Tensor:
    """Attention of items to the whole of some contexts, and to themselves up to each token.

    Args:
        query: of the items' N tokens, [1, H, N, D].
        key: theirs, [1, H_kv, N, D], H a multiple of H_kv; `value` alike.
        contexts: at least one: keys and values of what all items continue, each [1, H_kv, S, D].
        items: whose tokens they are.
        scale: factor on the dot products.

    Returns:
        [1, H, N, D].
    """
    size, length, heads = items.longest, query.shape[2], query.shape[1] // key.shape[1]
    exact = torch.promote_types(query.dtype, torch.float32)
    keys, values = (torch.cat(pair, 2)[0] for pair in zip(*contexts, strict=True))
    keys = keys.transpose(1, 2) * scale
    own = _of_items(items, query, items.blocks(key).transpose(2, 3) * scale)
    later = query.new_full((size, size), float("-inf")).triu(1)
    own += items.unblock(later.expand(items.count, query.shape[1], size, size))
    out = torch.empty_like(query)
    tokens = max(1, _LOGITS // (heads * (keys.shape[2] + size)))
    for group in range(key.shape[1]):
        alike = slice(group * heads, (group + 1) * heads)  # the heads that share keys
        for start in range(0, length, tokens):
            chunk = (0, alike, slice(start, start + tokens))
            logits = torch.cat([query[chunk] @ keys[group], own[chunk]], 2)
            weights = torch.softmax(logits, 2, dtype=exact).to(query.dtype)
            out[chunk] = weights[:, :, :-size] @ values[group]
            own[chunk] = weights[:, :, -size:]
    return out + _of_items(items, own, items.blocks(value))


def _of_items(items: Sequences, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """[1, H, N, M] times each item's own matrix, `by` [K, H_kv, M, O]: [1, H, N, O]."""
    blocks = items.blocks(x)
    return items.unblock((blocks.unflatten(1, (by.shape[1], -1)).flatten(2, 3) @ by).view(*blocks.shape[:3], -1))

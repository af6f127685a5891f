"""Attention of the items' last tokens alone: all that the last layer's attention is read for (`modeling.last_layer`).

    out = ends(query, key, value, layout, batch.score_positions, scale)

One query per candidate is little work: logits over the prefix and over the item itself lie in one tensor and get one
plain softmax, in float32, with gradients by autograd.
"""

from __future__ import annotations

import torch

from reshelf.modeling.packing import Layout, Sequences


def ends(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    rows: torch.Tensor,
    scale: float,
    past: tuple[torch.Tensor, torch.Tensor] | None = None,
    window: int | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention over a packed row.

    Args:
        rows: int64 [N], the last token of every item, in order.
        query, key, value, scale, past, window, sinks: as `attention_pieces.pieces` takes them.

    Returns:
        [1, T, H, D], 0 at all other tokens.
    """
    kind, parts = query.dtype, layout.parts
    exact = torch.promote_types(kind, torch.float32)
    query, key, value = query[:, :, rows].to(exact), key.to(exact), value.to(exact)
    sizes = [part.prefix.tokens for part in parts] + [part.items.tokens for part in parts]
    keys, values = key.split(sizes, 2), value.split(sizes, 2)
    queries = query.split([part.items.count for part in parts], 2)
    found, begin = [], 0
    for n, part in enumerate(parts):
        own = n + len(parts)
        context = keys[n], values[n]
        if past is not None:
            context = torch.cat([past[0], context[0]], 2), torch.cat([past[1], context[1]], 2)
        last = part.items.places[rows[begin : begin + part.items.count] - part.items.start]
        found.append(_of_list(queries[n], context, part.items, keys[own], values[own], last, scale, window, sinks))
        begin += part.items.count
    out = query.new_zeros(1, key.shape[2], query.shape[1], query.shape[3], dtype=kind)
    return out.index_copy(1, rows, torch.cat(found, 1).to(kind))


def _of_list(
    query: torch.Tensor,
    context: tuple[torch.Tensor, torch.Tensor],
    items: Sequences,
    key: torch.Tensor,
    value: torch.Tensor,
    last: torch.Tensor,
    scale: float,
    window: int | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """[1, K, H, D] of the last tokens of one list's K items, [1, H, K, D]."""
    groups, before = key.shape[1], context[0].shape[2]
    # Heads that share keys side by side, [K, H_kv, H / H_kv, D].
    q = query[0].transpose(0, 1).unflatten(1, (groups, -1)) * scale
    logits = [torch.einsum("kghd,gsd->kghs", q, context[0][0]), q @ items.blocks(key).transpose(2, 3)]
    place = torch.arange(-before, items.longest, device=last.device)  # of the keys, counted from the item's first
    hidden = place > last[:, None]
    if window is not None:
        hidden = hidden | (place <= last[:, None] - window)
    seen = torch.cat(logits, 3).masked_fill(hidden[:, None, None], float("-inf"))
    if sinks is not None:
        seen = torch.cat([seen, sinks.to(seen.dtype).view(1, groups, -1, 1).expand(*seen.shape[:3], 1)], 3)
    weights = torch.softmax(seen, 3)[..., : len(place)]
    out = torch.einsum("kghs,gsd->kghd", weights[..., :before], context[1][0])
    return (out + weights[..., before:] @ items.blocks(value)).flatten(1, 2)[None]

"""Shared-prefix attention on a CPU, from torch's own flash attention: prefix, items to prefix, items to themselves.

    out = pieces(query, key, value, batch.layout, scale)

An item's tokens see two sets of keys, the prefix and their own item. Each set is one flash attention call with its own
softmax; the two are merged by their log-sum-exps into the softmax over both (Dao et al., FlashAttention, 2022, §3.1).
The backward pass of either call needs only the merged output and log-sum-exp, so no weights are ever stored. The
prefix's keys and values exist once and are read by the items of a list as one long query.
"""

from __future__ import annotations

from typing import Any

import torch

from reshelf.modeling.packing import Layout, ListLayout

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def pieces(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    past: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Attention over a packed row.

    Args:
        query: [1, H, T, D].
        key: [1, H_kv, T, D], H a multiple of H_kv; `value` alike.
        past: keys and values of `layout.past`, [1, H_kv, S, D]; no gradients then.

    Returns:
        [1, T, H, D].
    """
    if past is None:
        out: torch.Tensor = _Pieces.apply(query, key, value, layout, scale)
    else:
        out = _behind(query, key, value, layout.parts[0], scale, past)
    return out.transpose(1, 2)


class _Pieces(torch.autograd.Function):
    """[1, H, T, D] out of [1, H, T, D] and twice [1, H_kv, T, D]."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
    ) -> torch.Tensor:
        _, heads, length, width = query.shape
        # Laid out as [T, H, D]: what the projection after the attention reads.
        out = query.new_empty(1, length, heads, width).transpose(1, 2)
        lse = query.new_empty(1, heads, length, dtype=torch.float32 if query.dtype != torch.float64 else None)
        for part in layout.parts:
            prefix, items = part.spans
            q, k, v = (x[:, :, prefix] for x in (query, key, value))
            out[:, :, prefix], lse[:, :, prefix] = _forward(q, _each(k, heads), _each(v, heads), 0.0, True, scale=scale)
            if part.count:
                own = tuple(x[:, :, items] for x in (query, key, value))
                out[:, :, items], lse[:, :, items] = _items(part, own, k, v, scale)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        heads, groups, scale = query.shape[1], key.shape[1], ctx.scale
        d_query, d_key, d_value = (torch.empty_like(x) for x in (query, key, value))
        for part in ctx.layout.parts:
            prefix, items = part.spans
            g, q, k, v, o, s = (x[:, :, prefix] for x in (*grads, query, key, value, out, lse))
            dq, dk, dv = _backward(g, q, _each(k, heads), _each(v, heads), o, s, 0.0, True, scale=scale)
            dk, dv = _sum(dk, groups), _sum(dv, groups)
            if part.count:
                own = tuple(x[:, :, items] for x in (*grads, query, key, value, out, lse))
                dq_own, dk_own, dv_own, dk_items, dv_items = _item_grads(part, own, k, v, scale)
                d_query[:, :, items], d_key[:, :, items], d_value[:, :, items] = dq_own, dk_own, dv_own
                dk, dv = dk + dk_items, dv + dv_items
            d_query[:, :, prefix], d_key[:, :, prefix], d_value[:, :, prefix] = dq, dk, dv
        return d_query, d_key, d_value, None, None


def _behind(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    part: ListLayout,
    scale: float,
    past: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """[1, H, T, D]: one list whose prefix begins with `past`, which every token of the row sees."""
    prefix, items = part.spans
    heads = query.shape[1]
    pieces = []
    if part.prefix:
        q, k, v = (x[:, :, prefix] for x in (query, key, value))
        to_past, past_lse = _forward(_fold(q, past[0]), *past, 0.0, False, scale=scale)
        to_self, self_lse = _forward(q, _each(k, heads), _each(v, heads), 0.0, True, scale=scale)
        pieces.append(_merge(_unfold(to_past, heads), _unfold(past_lse, heads), to_self, self_lse)[0])
    if part.count:
        own = tuple(x[:, :, items] for x in (query, key, value))
        k, v = (torch.cat([old, new[:, :, prefix]], 2) for old, new in zip(past, (key, value), strict=True))
        pieces.append(_items(part, own, k, v, scale)[0])
    return torch.cat(pieces, 2)


def _items(
    part: ListLayout, own: tuple[torch.Tensor, ...], k: torch.Tensor, v: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [1, H, N, D] and log-sum-exp [1, H, N] of one list's items.

    Args:
        own: query, key and value of the item tokens.
        k: keys of the prefix; `v` alike.
    """
    q, k_own, v_own = own
    heads = q.shape[1]
    to_prefix, prefix_lse = _forward(_fold(q, k), k, v, 0.0, False, scale=scale)
    blocks = (part.blocks(x) for x in (q, _each(k_own, heads), _each(v_own, heads)))
    to_self, self_lse = _forward(*blocks, 0.0, True, scale=scale)
    return _merge(_unfold(to_prefix, heads), _unfold(prefix_lse, heads), part.unblock(to_self), part.unblock(self_lse))


def _item_grads(
    part: ListLayout, own: tuple[torch.Tensor, ...], k: torch.Tensor, v: torch.Tensor, scale: float
) -> tuple[torch.Tensor, ...]:
    """Gradients of one list's items.

    Args:
        own: of the item tokens: gradient, query, key, value, output, log-sum-exp.
        k: keys of the prefix; `v` alike.

    Returns:
        Gradients of query, key and value of the item tokens, and of key and value of the prefix.
    """
    g, q, k_own, v_own, o, s = own
    heads, groups = q.shape[1], k.shape[1]
    dq, dk, dv = _backward(_fold(g, k), _fold(q, k), k, v, _fold(o, k), _fold(s, k), 0.0, False, scale=scale)
    g, q, k_own, v_own, o, s = (part.blocks(x) for x in (g, q, _each(k_own, heads), _each(v_own, heads), o, s))
    dq_own, dk_own, dv_own = (part.unblock(x) for x in _backward(g, q, k_own, v_own, o, s, 0.0, True, scale=scale))
    return _unfold(dq, heads) + dq_own, _sum(dk_own, groups), _sum(dv_own, groups), dk, dv


def _merge(
    a: torch.Tensor, a_lse: torch.Tensor, b: torch.Tensor, b_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One softmax out of two over different keys: outputs [1, H, N, D] and log-sum-exps [1, H, N]."""
    share = torch.sigmoid(a_lse - b_lse)[..., None]
    return torch.lerp(b.to(share.dtype), a.to(share.dtype), share).to(a.dtype), torch.logaddexp(a_lse, b_lse)


def _each(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values [1, H_kv, N, D] for every query head, [1, H, N, D]."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _sum(x: torch.Tensor, groups: int) -> torch.Tensor:
    """The opposite of `_each` for gradients: [1, H, N, D] to [1, H_kv, N, D]."""
    return x if x.shape[1] == groups else x.unflatten(1, (groups, -1)).sum(2)


def _fold(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """[1, H, N, …] as [1, H_kv, H/H_kv · N, …]: query heads that share keys become one long query."""
    return x if x.shape[1] == k.shape[1] else x.unflatten(1, (k.shape[1], -1)).flatten(2, 3)


def _unfold(x: torch.Tensor, heads: int) -> torch.Tensor:
    """The opposite of `_fold`."""
    return x if x.shape[1] == heads else x.unflatten(2, (heads // x.shape[1], -1)).flatten(1, 2)

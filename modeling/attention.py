"""Shared-prefix attention: the tokens of an item see the whole prefix and their own item up to themselves.

    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation=SHARED_PREFIX)
    model(batch.input_ids, position_ids=batch.position_ids, layout=batch.layout, use_cache=False)

Registered with transformers' AttentionInterface, so any of its causal LMs runs with it. The prefix is ordinary causal
attention (SDPA). The items of a list are one long query against the prefix's keys, which exist once, plus a small
causal block of each item against itself, under one softmax. There is no T×T mask, and scores equal those of K separate
prompts up to float rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from reshelf.modeling.packing import ListLayout

SHARED_PREFIX = "reshelf_shared_prefix"


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: tuple[ListLayout, ...] | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a packed row.

    Args:
        query: [1, H, T, D].
        key: [1, H_kv, T, D], H a multiple of H_kv.
        value: [1, H_kv, T, D].
        scaling: factor on the dot products; 1/√D where None.
        layout: of the row; None means one plain causal sequence.
        sliding_window: accepted as long as no prompt is longer than the window.
        s_aux: attention sinks; not accepted.

    Returns:
        [1, T, H, D], and None for the attention weights.

    Raises:
        NotImplementedError: attention logits are soft-capped, there are attention sinks, attention dropout is on, or a
            sliding window is shorter than a prompt.
    """
    for name, asked in (("soft-capped logits", softcap), ("sinks", s_aux), ("dropout", dropout or None)):
        if asked is not None:
            raise NotImplementedError(f"shared-prefix attention has no {name}, and the model asks for it")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    groups = query.shape[1] // key.shape[1]
    q, k, v = query[0], key[0].repeat_interleave(groups, 0), value[0].repeat_interleave(groups, 0)
    parts = layout or (ListLayout(0, q.shape[1], 0, None, None),)
    if sliding_window is not None:
        longest = max(part.prefix + (0 if part.own is None else part.own.shape[1]) for part in parts)
        if longest > sliding_window:
            raise NotImplementedError(
                f"a prompt of {longest} tokens is longer than the sliding window {sliding_window}"
            )
    # One split for the whole row: slicing list by list would make every slice's gradient as large as the row.
    lengths = [length for part in parts for length in (part.prefix, part.items)]
    spans = [x.split(lengths, dim=1) for x in (q, k, v)]
    pieces = []
    for n, part in enumerate(parts):
        qp, kp, vp = (span[2 * n] for span in spans)
        pieces.append(F.scaled_dot_product_attention(qp[None], kp[None], vp[None], is_causal=True, scale=scale)[0])
        if part.own is not None:
            qi, ki, vi = (span[2 * n + 1] for span in spans)
            pieces.append(_items(qi, ki, vi, kp, vp, part.own, part.valid, scale))
    return torch.cat(pieces, dim=1).transpose(0, 1)[None], None


def _items(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    k_prefix: torch.Tensor,
    v_prefix: torch.Tensor,
    own: torch.Tensor,
    valid: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Attention outputs of one list's item tokens.

    Args:
        q: [H, Σ L_k, D], like `k` and `v`; `k_prefix` and `v_prefix` are [H, P, D].
        own: int64 [K, L], see `ListLayout`; `valid` alike.

    Returns:
        [H, Σ L_k, D].
    """
    n, length = own.shape
    heads, _, width = q.shape
    if valid is not None:
        q, k, v = (x.index_select(1, own.reshape(-1)) for x in (q, k, v))
    q = (q * scale).contiguous()
    blocks = (heads, n, length, width)
    to_prefix = q @ k_prefix.transpose(1, 2)
    to_self = q.view(blocks) @ k.reshape(blocks).transpose(2, 3)
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    to_self = to_self.masked_fill(future, float("-inf")).view(heads, n * length, length)
    weights = torch.cat([to_prefix, to_self], dim=2).softmax(dim=2, dtype=torch.float32).to(v.dtype)
    prefix_weights, own_weights = weights.split([to_prefix.shape[2], length], dim=2)
    out = (own_weights.reshape(heads, n, length, length) @ v.reshape(blocks)).view(heads, n * length, width)
    out = out + prefix_weights @ v_prefix
    return out if valid is None else out[:, valid.reshape(-1)]


AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)

"""Shared-prefix attention: the tokens of an item see the whole prefix and their own item up to themselves.

    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation=SHARED_PREFIX)
    model(batch.input_ids, position_ids=batch.position_ids, layout=batch.layout, use_cache=False)

Registered with transformers' AttentionInterface, so any of its causal LMs runs with it. Scores equal those of K
separate prompts up to float rounding, in layers with a sliding window as in others. There is no T×T mask, and neither
K copies of the prefix's keys and values nor a matrix of attention weights: on a CPU a list is a few calls of torch's
flash attention (`modeling.attention_pieces`), and in the last layer that of the score positions alone
(`modeling.attention_ends`); on a GPU the whole row is two of them (`modeling.attention_varlen`), or
one FlexAttention call that skips the blocks nobody may see, where those kernels do not go (`modeling.attention_flex`).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

from reshelf.modeling.attention_ends import ends
from reshelf.modeling.attention_flex import flex
from reshelf.modeling.attention_pieces import pieces
from reshelf.modeling.attention_products import pays, products
from reshelf.modeling.attention_varlen import takes, varlen
from reshelf.modeling.packing import Layout

SHARED_PREFIX = "reshelf_shared_prefix"


def shared_prefix_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    read_rows: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a packed row.

    Args:
        query: [1, H, T, D].
        key: [1, H_kv, T, D], H a multiple of H_kv.
        value: [1, H_kv, T, D].
        scaling: factor on the dot products; 1/√D where None.
        layout: of the row; None means one plain causal sequence.
        sliding_window: how many tokens of its prompt a token sees, itself counted; None for all.
        s_aux: attention sinks, [H]: a logit beside the keys' that has no value.
        read_rows: int64 [N], the last token of every item, where nobody reads the output of any other.

    Returns:
        [1, T, H, D], and None for the attention weights.

    Raises:
        NotImplementedError: attention logits are soft-capped, or attention dropout is on (`modeling.loading` lets no
            such model through).
    """
    for name, setting in (("soft-capped logits", softcap), ("dropout", dropout or None)):
        if setting is not None:
            raise NotImplementedError(f"shared-prefix attention has no {name}, and the model asks for it")
    layout = layout or Layout.causal(query.shape[2]).to(query.device)
    window = sliding_window if sliding_window is not None and sliding_window < layout.longest else None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Beside a float32 residual stream, rotary embeddings are float32 and turn queries and keys into it.
    query, key = query.to(value.dtype), key.to(value.dtype)
    past = None if layout.past is None else layout.past.layers[module.layer_idx]
    if layout.keep:
        _keep(module.layer_idx, key, value, layout)
    if takes(query, window, past, s_aux):
        return varlen(query, key, value, layout, scale), None
    if read_rows is not None and query.is_cpu:
        return ends(query, key, value, layout, read_rows, scale, past, window, s_aux), None
    if pays(query, s_aux):
        return products(query, key, value, layout, scale, past, window), None
    attend = flex if query.is_cuda else pieces
    return attend(query, key, value, layout, scale, past, window, s_aux), None


def _keep(layer: int, key: torch.Tensor, value: torch.Tensor, layout: Layout) -> None:
    """Fill `layout.keep` with one layer's keys and values of every prefix."""
    for part, kept in zip(layout.parts, layout.keep, strict=True):
        rows = part.prefix.rows
        pair = key[:, :, rows], value[:, :, rows]
        before = layout.past.layers[layer] if layout.past is not None else None
        # Copies: a slice would hold the whole row's memory.
        kept.layers[layer] = (
            (pair[0].clone(), pair[1].clone())
            if before is None
            else (torch.cat([before[0], pair[0]], 2), torch.cat([before[1], pair[1]], 2))
        )


AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)

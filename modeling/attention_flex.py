"""Shared-prefix attention on a GPU: the whole row in one FlexAttention call, whatever its lists look like.

    out = flex(query, key, value, batch.layout, scale)

FlexAttention visits only blocks of keys that some token of a block may see, so a row costs what its lists cost, and it
keeps no weights for the backward pass (Dong et al., Flex Attention, 2024). Its mask is made once per batch and window.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from reshelf.modeling.packing import Layout

_masks: WeakKeyDictionary[Layout, dict[int | None, BlockMask]] = WeakKeyDictionary()
"""By layout and window: layers with one window share a mask."""


def flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    past: tuple[torch.Tensor, torch.Tensor] | None = None,
    window: int | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention over a packed row. Arguments and result as of `attention_pieces.pieces`."""
    if past is not None:
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    masks = _masks.setdefault(layout, {})
    if window not in masks:
        masks[window] = _mask(layout, query.device, window)
    attend = _compiled() if query.is_cuda else flex_attention
    shared = query.shape[1] != key.shape[1]
    options = {"block_mask": masks[window], "scale": scale, "enable_gqa": shared}
    if sinks is None:
        out = attend(query, key, value, **options)
    else:
        out, aux = attend(query, key, value, **options, return_aux=AuxRequest(lse=True))
        out = out * torch.sigmoid(aux.lse - sinks[None, :, None])[..., None].to(out.dtype)
    return out.transpose(1, 2)


def _mask(layout: Layout, device: torch.device, window: int | None) -> BlockMask:
    lists, items, positions = layout.owners.to(device)
    behind, length = layout.behind, layout.owners.shape[1]
    # As keys, the tokens of `past` come first; they are prefix tokens of the only list.
    key_lists, key_items = (F.pad(x, (behind, 0)) for x in (lists, items))
    key_positions = torch.cat([torch.arange(behind, device=device, dtype=positions.dtype), positions])

    def seen(batch: torch.Tensor, head: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        mine = (key_items[k] == 0) | (key_items[k] == items[q])
        visible = (k <= q + behind) & (key_lists[k] == lists[q]) & mine
        return visible if window is None else visible & (positions[q] - key_positions[k] < window)

    return create_block_mask(seen, None, None, length, behind + length, device=device, _compile=device.type == "cuda")


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)

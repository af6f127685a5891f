"""Shared-prefix attention on a GPU: the whole row in one FlexAttention call, whatever its lists look like.

    out = flex(query, key, value, batch.layout, scale)

FlexAttention visits only blocks of keys that some token of a block may see, so a row costs what its lists cost, and it
keeps no weights for the backward pass (Dong et al., Flex Attention, 2024). Its mask is made once per batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from reshelf.modeling.packing import Layout

_masks: WeakKeyDictionary[Layout, BlockMask] = WeakKeyDictionary()


def flex(
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
        past: keys and values of `layout.past`, [1, H_kv, S, D].

    Returns:
        [1, T, H, D].
    """
    if past is not None:
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    if layout not in _masks:
        _masks[layout] = _mask(layout, query.device)
    attend = _compiled() if query.is_cuda else flex_attention
    shared = query.shape[1] != key.shape[1]
    out = attend(query, key, value, block_mask=_masks[layout], scale=scale, enable_gqa=shared)
    return out.transpose(1, 2)


def _mask(layout: Layout, device: torch.device) -> BlockMask:
    lists, items = layout.owners.to(device)
    behind, length = layout.behind, layout.owners.shape[1]
    # As keys, the tokens of `past` come first; they are prefix tokens of the only list.
    key_lists, key_items = (F.pad(x, (behind, 0)) for x in (lists, items))

    def seen(batch: torch.Tensor, head: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        mine = (key_items[k] == 0) | (key_items[k] == items[q])
        return (k <= q + behind) & (key_lists[k] == lists[q]) & mine

    return create_block_mask(seen, None, None, length, behind + length, device=device, _compile=device.type == "cuda")


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)

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
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from reshelf.modeling.packing import Layout

_masks: WeakKeyDictionary[Layout, BlockMask] = WeakKeyDictionary()


def flex(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float) -> torch.Tensor:
    """Attention over a packed row.

    Args:
        query: [1, H, T, D].
        key: [1, H_kv, T, D], H a multiple of H_kv; `value` alike.

    Returns:
        [1, T, H, D].
    """
    if layout not in _masks:
        _masks[layout] = _mask(layout, query.device)
    attend = _compiled() if query.is_cuda else flex_attention
    shared = query.shape[1] != key.shape[1]
    out = attend(query, key, value, block_mask=_masks[layout], scale=scale, enable_gqa=shared)
    return out.transpose(1, 2)


def _mask(layout: Layout, device: torch.device) -> BlockMask:
    lists, items = layout.owners.to(device)

    def seen(batch: torch.Tensor, head: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        mine = (items[k] == 0) | (items[k] == items[q])
        return (k <= q) & (lists[k] == lists[q]) & mine

    length = layout.owners.shape[1]
    return create_block_mask(seen, None, None, length, length, device=device, _compile=device.type == "cuda")


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)

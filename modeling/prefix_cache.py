"""Keys and values of prefixes that were read before, so that a returning shopper's history is not read again.

    cache = PrefixCache(1 << 28)
    past = cache.find(prompt.prefix)                       # None, or the longest beginning that is known
    kept = Past(prompt.prefix)
    score(model, pack([prompt], past=past, keep=[kept]))   # reads what comes after `past`, fills `kept`
    cache.add(kept)

A shopper's history is the beginning of every prefix they get, until its oldest block is dropped, so another query, or
the next group of a long list's candidates, begins where the history ends.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch

WORTH = 32
"""A shorter common beginning is read again rather than looked up."""


@dataclass(frozen=True, eq=False)
class Past:
    """A prefix's tokens, int32 [P], with every layer's keys and values for them, [1, H_kv, P, D] each."""

    tokens: np.ndarray
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def first(self, length: int) -> Past:
        """The same of the first `length` tokens."""
        short = {n: (k[:, :, :length], v[:, :, :length]) for n, (k, v) in self.layers.items()}
        return Past(self.tokens[:length], short)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(k.nbytes + v.nbytes for k, v in self.layers.values())


class PrefixCache:
    """The most recently used prefixes, up to a number of bytes.

    Args:
        limit: bytes; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._known: OrderedDict[tuple[str, str, bytes], Past] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, prefix: np.ndarray, namespace: str = "", adapter: str = "") -> Past | None:
        """The prefix of the same namespace and adapter that has the longest beginning in common with `prefix`
        (int32 [P]), cut to it."""
        best, name = 0, ("", "", b"")
        start = prefix[:WORTH]
        for key, past in self._known.items():
            # Most prefixes differ within their first tokens; only the others are compared to the end.
            if key[:2] == (namespace, adapter) and len(start) == WORTH and np.array_equal(past.tokens[:WORTH], start):
                shared = _common(past.tokens, prefix)
                if shared > best:
                    best, name = shared, key
        if not best:
            return None
        self._known.move_to_end(name)
        return self._known[name].first(best)

    def add(self, past: Past, namespace: str = "", adapter: str = "") -> None:
        """Remember a prefix whose keys and values are there; the least recently used ones make room. Only the same
        namespace finds it again, and only by the adapter that made them."""
        if len(past) < WORTH or past.size > self._limit:
            return
        key = (namespace, adapter, past.tokens.tobytes())
        if (old := self._known.pop(key, None)) is not None:
            self._size -= old.size
        self._known[key] = past
        self._size += past.size
        while self._size > self._limit:
            _, old = self._known.popitem(last=False)
            self._size -= old.size

    def forget(self, namespace: str) -> None:
        """Drop all of a namespace's prefixes, whichever adapter made them."""
        self._drop([key for key in self._known if key[0] == namespace])

    def forget_adapter(self, adapter: str) -> None:
        """Drop all that an adapter made, in whichever namespace."""
        self._drop([key for key in self._known if key[1] == adapter])

    def _drop(self, keys: list[tuple[str, str, bytes]]) -> None:
        for key in keys:
            self._size -= self._known.pop(key).size


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two prefixes have in common from their beginning."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length

"""Lists as tensors for the learned systems: rows to look up, words, numbers.

    inputs = Inputs.of(data);  rows, encoded = inputs.encode(data.items, data.lists["test"])
    collate(encoded[:64]).candidates                                  # int64 [B, K], rows of `rows`

Whatever an encoder can read stands in one table, `Rows`: row 0 is nothing (padding), then the items, then the texts
that were typed (queries of lists, searches in histories). What only the catalogue knows and the training lists never
showed is "unknown", so that no weight is used that was never trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from reshelf.data.bm25 import words
from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.evaluation.baselines.numbers import ITEM_NUMBERS, Numbers
from reshelf.evaluation.baselines.pictures import read_pictures
from reshelf.evaluation.baselines.scale import Scale

K = TypeVar("K", bound=Hashable)
NOTHING, UNKNOWN = 0, 1
"""The first two of every kind of id; known ones follow."""
KINDS = {kind: n for n, kind in enumerate(EventKind, start=1)}
_VOCABULARY, _TEXT_WORDS, _SMALL = 20_000, 24, 1000


@dataclass(frozen=True)
class Rows:
    """The table that candidates, histories and queries point into; all fields are parallel, [N, …]."""

    ids: torch.Tensor
    """int64 [N]: the item's own id."""
    brands: torch.Tensor
    """int64 [N]"""
    leaves: torch.Tensor
    """int64 [N]: deepest category."""
    words: torch.Tensor
    """int64 [N, W], 0 after the last word."""
    numbers: torch.Tensor
    """float32 [N, F]: price, price level, rating, rating count, scaled."""
    pictures: torch.Tensor
    """int64 [N]: row of `pixels`, 0 for an item without a picture."""
    pixels: torch.Tensor
    """uint8 [P, 3, 32, 32]; not parallel. Row 0 is black and stands for no picture."""

    def take(self, rows: torch.Tensor) -> Rows:
        """Some rows of the table, int64 [n]."""
        names = ("ids", "brands", "leaves", "words", "numbers", "pictures")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True)
class Encoded:
    """One list. `query`, `history` and `candidates` are rows of the table."""

    user: int
    query: int
    history: np.ndarray
    """int64 [H], oldest first."""
    kinds: np.ndarray
    """int64 [H]"""
    values: np.ndarray
    """float32 [H]: stars of a rating, from −1 to 1; 0 elsewhere."""
    candidates: np.ndarray
    """int64 [K]"""
    numbers: np.ndarray
    """float32 [K, F]"""
    labels: np.ndarray
    """int64 [K], 0 where a list has none."""

    def only(self, chosen: np.ndarray) -> Encoded:
        """With the candidates `chosen` (int64 [k]) alone."""
        changed = {name: getattr(self, name)[chosen] for name in ("candidates", "numbers", "labels")}
        return replace(self, **changed)


@dataclass(frozen=True)
class InputBatch:
    """Lists side by side, padded with 0. `query`, `history` and `candidates` may also point into vectors of rows."""

    users: torch.Tensor
    """int64 [B]"""
    query: torch.Tensor
    """int64 [B]"""
    history: torch.Tensor
    """int64 [B, H], H at least 1"""
    kinds: torch.Tensor
    """int64 [B, H]"""
    values: torch.Tensor
    """float32 [B, H]"""
    past: torch.Tensor
    """bool [B, H], True for real events."""
    candidates: torch.Tensor
    """int64 [B, K]"""
    numbers: torch.Tensor
    """float32 [B, K, F]"""
    labels: torch.Tensor
    """int64 [B, K]"""
    mask: torch.Tensor
    """bool [B, K], True for real candidates."""


def collate(lists: Sequence[Encoded]) -> InputBatch:
    """Pad lists to one batch."""
    past = np.array([len(one.history) for one in lists])
    many = np.array([len(one.candidates) for one in lists])
    before = np.arange(max(1, past.max())) < past[:, None]
    mask = np.arange(many.max()) < many[:, None]

    def fill(grid: np.ndarray, name: str) -> torch.Tensor:
        parts = [getattr(one, name) for one in lists]
        result = np.zeros((*grid.shape, *parts[0].shape[1:]), dtype=parts[0].dtype)
        result[grid] = np.concatenate(parts)
        return torch.from_numpy(result)

    history, kinds, values = (fill(before, name) for name in ("history", "kinds", "values"))
    candidates, numbers, labels = (fill(mask, name) for name in ("candidates", "numbers", "labels"))
    return InputBatch(
        users=torch.tensor([one.user for one in lists]),
        query=torch.tensor([one.query for one in lists]),
        history=history,
        kinds=kinds,
        values=values,
        past=torch.from_numpy(before),
        candidates=candidates,
        numbers=numbers,
        labels=labels,
        mask=torch.from_numpy(mask),
    )


@dataclass(frozen=True)
class Inputs:
    """What the training lists taught about ids, words and scales."""

    recent: int
    """Events at the end of a history that are read."""
    known: dict[str, int]
    users: dict[str, int]
    brands: dict[str, int]
    leaves: dict[tuple[str, ...], int]
    vocabulary: dict[str, int]
    item_scale: Scale
    numbers: Numbers | None
    number_scale: Scale | None
    images: Path | None

    @classmethod
    def of(cls, data: RankingData, features: bool = True, recent: int = 20, images: Path | None = None) -> Inputs:
        """From `data.importing.items` and `data.lists["train"]`.

        Args:
            features: read the lists' numbers (`Numbers`: features, first-stage score, …).
            recent: events at the end of a history that are read.
            images: the folder that `Item.image` is relative to; None reads no pictures.
        """
        train = data.lists["train"]
        seen = dict.fromkeys(chain.from_iterable((*one.candidates, *_items(one.history)) for one in train))
        items = [data.items[item] for item in seen]
        typed = chain.from_iterable((one.query, *_searches(one.history)) for one in train)
        counts = Counter(chain.from_iterable(words(text) for text in chain(map(_text, items), dict.fromkeys(typed))))
        least = 2 if len(items) > _SMALL else 1
        frequent = [word for word, count in counts.most_common(_VOCABULARY) if count >= least]
        numbers = Numbers.of(train, data.items) if features else None
        return cls(
            recent,
            _codes(seen),
            _codes(one.user_id for one in train),
            _codes(item.brand for item in items if item.brand),
            _codes(item.category for item in items if item.category),
            _codes(frequent),
            Scale.of(_item_numbers(items)),
            numbers,
            Scale.of(np.concatenate([numbers.table(one) for one in train])) if numbers else None,
            images,
        )

    @property
    def width(self) -> int:
        """Numbers per candidate."""
        return self.number_scale.width if self.number_scale else 0

    def encode(self, items: Mapping[str, Item], lists: Sequence[RankingList]) -> tuple[Rows, list[Encoded]]:
        """The table of all items and of the texts of these lists, and the lists.

        Raises:
            InputError: a list lacks a feature that the training lists had.
        """
        typed = dict.fromkeys(chain.from_iterable((one.query, *_searches(one.history)) for one in lists))
        place = {item: n for n, item in enumerate(items, start=1)}
        texts = {text: n for n, text in enumerate((t for t in typed if t.strip()), start=1 + len(items))}
        encoded = []
        for one, numbers in zip(lists, self._numbers(items, lists), strict=True):
            past = one.history[-self.recent :] if self.recent else ()
            rows = [texts.get(e.query or "", 0) if e.item_id is None else place[e.item_id] for e in past]
            encoded.append(
                Encoded(
                    self.users.get(one.user_id, UNKNOWN),
                    texts.get(one.query, NOTHING),
                    np.array(rows, dtype=np.int64),
                    np.array([KINDS[event.kind] for event in past], dtype=np.int64),
                    np.array([_stars(event) for event in past], dtype=np.float32),
                    np.array([place[item] for item in one.candidates], dtype=np.int64),
                    numbers,
                    np.array(one.labels or [0] * len(one.candidates), dtype=np.int64),
                )
            )
        return self._rows(list(items.values()), list(texts)), encoded

    def _numbers(self, items: Mapping[str, Item], lists: Sequence[RankingList]) -> list[np.ndarray]:
        sizes = [len(one.candidates) for one in lists]
        if self.numbers is None or self.number_scale is None or not lists:
            return [np.zeros((size, 0), dtype=np.float32) for size in sizes]
        numbers = replace(self.numbers, items=items)
        scaled = self.number_scale(np.concatenate([numbers.table(one) for one in lists]))
        return np.split(scaled, np.cumsum(sizes)[:-1])

    def _rows(self, items: Sequence[Item], texts: Sequence[str]) -> Rows:
        size = 1 + len(items) + len(texts)
        ids, brands, leaves, pictures = np.zeros((4, size), dtype=np.int64)
        ids[1 : 1 + len(items)] = [self.known.get(item.item_id, UNKNOWN) for item in items]
        brands[1 : 1 + len(items)] = [self.brands.get(item.brand, UNKNOWN) if item.brand else 0 for item in items]
        leaves[1 : 1 + len(items)] = [self.leaves.get(item.category, UNKNOWN) if item.category else 0 for item in items]
        found = [words(text)[:_TEXT_WORDS] for text in chain(map(_text, items), texts)]
        grid = np.zeros((size, max(1, max(map(len, found), default=1))), dtype=np.int64)
        for row, text in zip(grid[1:], found, strict=True):
            row[: len(text)] = [self.vocabulary.get(word, UNKNOWN) for word in text]
        numbers = np.zeros((size, self.item_scale.width), dtype=np.float32)
        numbers[1 : 1 + len(items)] = self.item_scale(_item_numbers(items))
        pictures[1 : 1 + len(items)], pixels = read_pictures(items, self.images)
        tables = (torch.from_numpy(table) for table in (ids, brands, leaves, grid, numbers, pictures, pixels))
        return Rows(*tables)


def _codes(values: Iterable[K]) -> dict[K, int]:
    """Numbers from 2 on, in the order of appearance."""
    return {value: n for n, value in enumerate(dict.fromkeys(values), start=2)}


def _items(history: Sequence[Event]) -> Iterable[str]:
    return (event.item_id for event in history if event.item_id is not None)


def _searches(history: Sequence[Event]) -> Iterable[str]:
    return (event.query for event in history if event.item_id is None and event.query)


def _stars(event: Event) -> float:
    if event.value is None or event.kind != EventKind.RATING:
        return 0.0
    return float(np.clip((event.value - 3) / 2, -1, 1))


def _text(item: Item) -> str:
    """What an item is read as: title first, because a long text is cut at its end."""
    return " ".join((item.title, item.brand or "", *item.category[-1:]))


def _item_numbers(items: Sequence[Item]) -> np.ndarray:
    """float64 [n, 4], NaN where missing."""
    values = [[getattr(item, name) for name in ITEM_NUMBERS] for item in items]
    return np.array(values, dtype=np.float64).reshape(len(items), len(ITEM_NUMBERS))

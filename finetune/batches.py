"""Training lists as batches of packed token ids.

dataset = ListDataset(data.lists["train"], builder, max_candidates=16, seed=0)
batch = collate([dataset[0], dataset[1]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.finetune.sharing import STAND_IN
from reshelf.modeling.packing import PackedBatch, pack
from reshelf.prompts.builder import ListPrompt, PromptBuilder


@dataclass(frozen=True)
class Example:
    """A list as token ids with its grades."""

    prompt: ListPrompt
    labels: np.ndarray
    """int64 [K]."""
    weight: float = 1.0
    """Weight in the loss."""


def thin(ranking: RankingList, limit: int, seed: Sequence[int]) -> RankingList:
    """All positives and others drawn at random up to `limit` candidates, in first-stage order; `limit` 0 keeps all."""
    if not limit or len(ranking.candidates) <= limit:
        return ranking
    labels = np.array(ranking.labels)
    positive, other = np.flatnonzero(labels > 0)[:limit], np.flatnonzero(labels == 0)
    drawn = np.random.default_rng(seed).choice(other, min(len(other), limit - len(positive)), replace=False)
    return ranking.only(np.sort(np.concatenate([positive, drawn])).tolist())


class ListDataset(Dataset[Example]):
    """Lists, tokenised when they are asked for.

    Args:
        lists: with labels.
        max_candidates: keep all positives and fill up with others drawn at random, in first-stage order; 0 keeps all.
        seed: the draw depends on it, the epoch and the list alone, so a resumed run draws alike.

    Raises:
        InputError: a list has no labels, or cannot be written within the prompt's budgets.
    """

    def __init__(
        self, lists: Sequence[RankingList], builder: PromptBuilder, max_candidates: int = 0, seed: int = 0
    ) -> None:
        for ranking in lists:
            if ranking.labels is None:
                raise InputError(f"list {ranking.list_id}, field labels: missing; training and validation need them")
            builder.check(ranking)
        self._lists = lists
        self._builder = builder
        self._max = max_candidates
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lists)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, n: int) -> Example:
        """List `n`; for `STAND_IN` the first one, with weight 0."""
        if n == STAND_IN:
            return replace(self[0], weight=0.0)
        ranking = thin(self._lists[n], self._max, [self._seed, self.epoch, n])
        return Example(self._builder.build(ranking), np.array(ranking.labels, dtype=np.int64))


@dataclass(frozen=True)
class Batch:
    """Packed lists with padded labels."""

    packed: PackedBatch
    labels: torch.Tensor
    """int64 [B, K], padded with 0."""
    mask: torch.Tensor
    """bool [B, K], True for real candidates."""
    weights: torch.Tensor
    """float32 [B], weight of each list in the loss."""

    def to(self, device: torch.device | str, **_: Any) -> Batch:
        return Batch(self.packed.to(device), self.labels.to(device), self.mask.to(device), self.weights.to(device))


def collate(examples: Sequence[Example], joint: bool = False) -> Batch:
    """Pack examples and pad their labels to the longest list."""
    longest = max(len(example.labels) for example in examples)
    labels = torch.zeros(len(examples), longest, dtype=torch.int64)
    mask = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):
        labels[row, : len(example.labels)] = torch.from_numpy(example.labels)
        mask[row, : len(example.labels)] = True
    weights = torch.tensor([example.weight for example in examples])
    return Batch(pack([example.prompt for example in examples], joint), labels, mask, weights)


def padded(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores [N] of packed lists as float32 [B, K], 0 where `mask` is False."""
    return torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_scatter(mask, scores)

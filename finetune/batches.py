"""Training lists as batches of packed token ids.

dataset = ListDataset(data.lists["train"], builder, max_candidates=16, seed=0, extras=Extras(teacher="lambdamart"))
batch = collate([dataset[0], dataset[1]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.finetune.augment import AugmentConfig, augmented, build_augmented
from reshelf.finetune.distributed import STAND_IN
from reshelf.modeling.packing import PackedBatch, pack
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.list_prompt import ListPrompt


@dataclass(frozen=True)
class Example:
    """A list as token ids with its grades."""

    prompt: ListPrompt
    labels: np.ndarray
    """int64 [K]."""
    weight: float = 1.0
    """Weight in the loss."""
    inverse_propensity: np.ndarray | None = None
    """float32 [K]: 1 / the probability that the shopper examined the candidate; None where it is unknown."""
    teacher: np.ndarray | None = None
    """float32 [K]: a teacher's scores, where there is a teacher."""


@dataclass(frozen=True)
class Extras:
    """What training lists have, and validation lists have only as far as propensities."""

    teacher: str = ""
    """Name in `RankingList.features` of a teacher's scores; empty for none."""
    propensities: npt.NDArray[np.float64] | None = None
    """Probability of each shown place to be examined; None for no correction (`data.propensity.file`)."""
    max_inverse_propensity: float = 10.0
    """Where 1 / probability is cut off."""
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(feature_dropout=0.0))
    """Random changes; none by default."""
    hard_negatives: float = 0.0
    """See `thin`."""


def thin(ranking: RankingList, limit: int, seed: Sequence[int], hard: float = 0.0) -> RankingList:
    """All positives and others up to `limit` candidates, in first-stage order; `limit` 0 keeps all.

    Args:
        hard: share of the others that are hard negatives, those that the first stage put highest; the rest is drawn
            at random.
    """
    if not limit or len(ranking.candidates) <= limit:
        return ranking
    labels = np.array(ranking.labels)
    positive, other = np.flatnonzero(labels > 0)[:limit], np.flatnonzero(labels == 0)
    room = min(len(other), limit - len(positive))
    first = round(hard * room)
    drawn = np.random.default_rng(seed).choice(other[first:], room - first, replace=False)
    return ranking.only(np.sort(np.concatenate([positive, other[:first], drawn])).tolist())


def inverse_propensity(ranking: RankingList, propensities: npt.NDArray[np.float64], limit: float) -> np.ndarray:
    """1 / the probability of examination for candidates with a label above 0, at most `limit`; 1 for others.

    Args:
        ranking: with labels and shown places.
        propensities: by place, see `data.propensity.file`; places beyond the last are like the last.
        limit: a rare click at the end of a list would else outweigh all others.

    Returns:
        float32 [K].
    """
    places = np.minimum(np.array(ranking.positions), len(propensities)) - 1
    clipped = np.minimum(1 / propensities[places], limit)
    return np.where(np.array(ranking.labels) > 0, clipped, 1.0).astype(np.float32)


class ListDataset(Dataset[Example]):
    """Lists, tokenised when they are asked for.

    Args:
        lists: with labels.
        max_candidates: keep all positives and fill up with others, see `thin`; 0 keeps all.
        seed: draws depend on it, the epoch and the list alone, so a resumed run draws alike.
        extras: of training lists.

    Raises:
        InputError: a list has no labels, lacks the teacher's scores, or cannot be written within the prompt's budgets.
    """

    def __init__(
        self,
        lists: Sequence[RankingList],
        builder: PromptBuilder,
        max_candidates: int = 0,
        seed: int = 0,
        extras: Extras = Extras(),
    ) -> None:
        for ranking in lists:
            if ranking.labels is None:
                raise InputError(f"list {ranking.list_id}, field labels: missing; training and validation need them")
            if extras.teacher and extras.teacher not in ranking.features:
                raise InputError(
                    f"list {ranking.list_id}, field features.{extras.teacher}: missing, but distil.feature names it; "
                    "write the teacher's scores into every training list"
                )
            builder.check(ranking)
        self._lists = lists
        self._builder = builder
        self._max = max_candidates
        self._seed = seed
        self._extras = extras
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lists)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, n: int) -> Example:
        """List `n`; for `STAND_IN` the first one, with weight 0."""
        if n == STAND_IN:
            return replace(self[0], weight=0.0)
        extras, seed = self._extras, [self._seed, self.epoch, n]
        ranking = self._lists[n]
        if extras.propensities is not None and ranking.positions is None:
            # Shown as they came; which places those were is lost once candidates are left out or shuffled.
            ranking = ranking.model_copy(update={"positions": tuple(range(1, len(ranking.candidates) + 1))})
        ranking = augmented(thin(ranking, self._max, seed, extras.hard_negatives), extras.augment, seed)
        inverse = teacher = None
        if extras.propensities is not None:
            inverse = inverse_propensity(ranking, extras.propensities, extras.max_inverse_propensity)
        if extras.teacher:
            teacher = np.array(ranking.features[extras.teacher], dtype=np.float32)
        prompt = build_augmented(self._builder, ranking, extras.augment, seed)
        labels = np.array(ranking.labels, dtype=np.int64)
        return Example(prompt, labels, inverse_propensity=inverse, teacher=teacher)


@dataclass(frozen=True)
class Batch:
    """Packed lists with padded labels."""

    packed: PackedBatch
    """Stays on the CPU until it is scored."""
    labels: torch.Tensor
    """int64 [B, K], padded with 0."""
    mask: torch.Tensor
    """bool [B, K], True for real candidates."""
    weights: torch.Tensor
    """float32 [B], weight of each list in the loss."""
    inverse_propensity: torch.Tensor
    """float32 [B, K], 1 where unknown and in the padding."""
    teacher: torch.Tensor | None = None
    """float32 [B, K], padded with 0; None without a teacher."""

    def to(self, device: torch.device | str, **_: Any) -> Batch:
        return Batch(
            self.packed,
            self.labels.to(device),
            self.mask.to(device),
            self.weights.to(device),
            self.inverse_propensity.to(device),
            None if self.teacher is None else self.teacher.to(device),
        )


def collate(examples: Sequence[Example]) -> Batch:
    """Pack examples and pad what runs parallel to their candidates to the longest list."""
    longest = max(len(example.labels) for example in examples)
    labels = torch.zeros(len(examples), longest, dtype=torch.int64)
    mask = torch.zeros(len(examples), longest, dtype=torch.bool)
    inverse = torch.ones(len(examples), longest)
    teacher = torch.zeros(len(examples), longest) if examples[0].teacher is not None else None
    for row, example in enumerate(examples):
        size = len(example.labels)
        labels[row, :size] = torch.from_numpy(example.labels)
        mask[row, :size] = True
        if example.inverse_propensity is not None:
            inverse[row, :size] = torch.from_numpy(example.inverse_propensity)
        if teacher is not None:
            assert example.teacher is not None
            teacher[row, :size] = torch.from_numpy(example.teacher)
    weights = torch.tensor([example.weight for example in examples])
    return Batch(pack([example.prompt for example in examples]), labels, mask, weights, inverse, teacher)


def padded(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scores [N] of packed lists as float32 [B, K], 0 where `mask` is False."""
    return torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_scatter(mask, scores)

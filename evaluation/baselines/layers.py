"""Layers that several learned systems share: an item as one vector, attention to a history, the last layer.

item = ItemEncoder(inputs, 48);  item(rows)                       # float32 [n, 48]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from reshelf.evaluation.baselines.inputs import UNKNOWN, Inputs, Rows

_SPREAD = 0.1


def table(known: int, size: int) -> nn.Embedding:
    """An embedding for nothing, unknown and `known` things; small at first, so that unseen ones say little."""
    made = nn.Embedding(known + 2, size, padding_idx=0)
    with torch.no_grad():
        made.weight.mul_(_SPREAD)
    return made


def forget(ids: torch.Tensor, share: float, training: bool) -> torch.Tensor:
    """In training, ids that become unknown now and then: so the unknown one is trained, for what is new later."""
    if not training or share == 0:
        return ids
    return torch.where((torch.rand(ids.shape) < share) & (ids > UNKNOWN), UNKNOWN, ids)


def mean_words(words: torch.Tensor, embedding: nn.Embedding) -> torch.Tensor:
    """Mean embedding of each row's words, float32 [n, D]; zeros for a row without any."""
    count = (words > 0).sum(1, keepdim=True).clamp_min(1)
    return embedding(words).sum(1) / count


class ItemEncoder(nn.Module):
    """Sum of the embeddings of id, brand and category, of the mean word, and of the projected numbers."""

    def __init__(self, inputs: Inputs, size: int, forgotten: float = 0.1) -> None:
        super().__init__()
        self.ids = table(len(inputs.known), size)
        self.brands = table(len(inputs.brands), size)
        self.leaves = table(len(inputs.leaves), size)
        self.words = table(len(inputs.vocabulary), size)
        self.numbers = nn.Linear(inputs.item_scale.width, size) if inputs.item_scale.width else None
        self.norm = nn.LayerNorm(size)
        self._forgotten = forgotten

    def forward(self, rows: Rows) -> torch.Tensor:
        """float32 [n, size]."""
        ids = forget(rows.ids, self._forgotten, self.training)
        total = self.ids(ids) + self.brands(rows.brands) + self.leaves(rows.leaves)
        total = total + mean_words(rows.words, self.words)
        if self.numbers is not None:
            total = total + self.numbers(rows.numbers)
        return self.norm(total)


class Attention(nn.Module):
    """Each candidate's own view of a history: a softmax over the events, and over "none of them"."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, size)
        self.none = nn.Parameter(torch.zeros(size))
        # Alike things attend to each other from the first step on.
        nn.init.eye_(self.query.weight)

    def forward(self, candidates: torch.Tensor, events: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """float32 [B, K, D].

        Args:
            candidates: float32 [B, K, D].
            events: float32 [B, H, D].
            past: bool [B, H], True for real events.
        """
        events = torch.cat([self.none.expand(len(events), 1, -1), events], 1)
        past = F.pad(past, (1, 0), value=True)
        weights = self.query(candidates) @ events.mT / events.shape[-1] ** 0.5
        return weights.masked_fill(~past[:, None, :], -torch.inf).softmax(-1) @ events


class LastLayer(nn.Module):
    """Score from what the network made of a candidate and from the list's numbers.

    Wide and deep (Cheng et al., DLRS 2016): the numbers have a linear layer and a small perceptron of their own, so
    that hundreds of embedding dimensions do not drown them out; another perceptron reads all of it together.
    """

    def __init__(self, size: int, numbers: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.together = _perceptron(size + numbers, hidden, dropout)
        self.alone = _perceptron(numbers, hidden, 0.0) if numbers else None
        self.line = nn.Linear(numbers, 1, bias=False) if numbers else None

    def forward(self, made: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """float32 [B, K] from float32 [B, K, size] and [B, K, numbers]."""
        score = self.together(torch.cat([made, numbers], -1))
        if self.alone is not None and self.line is not None:
            score = score + self.alone(numbers) + self.line(numbers)
        return score.squeeze(-1)


def _perceptron(size: int, hidden: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(size, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
    )


def nearness(candidates: torch.Tensor, events: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
    """Largest and mean cosine of each candidate with the events, float32 [B, K, 2]; 0 for an empty history."""
    cosines = F.normalize(candidates, dim=-1) @ F.normalize(events, dim=-1).mT
    cosines = cosines.masked_fill(~past[:, None, :], 0.0)
    mean = cosines.sum(-1) / past.sum(-1).clamp_min(1)[:, None]
    largest = cosines.masked_fill(~past[:, None, :], -1.0).amax(-1) * past.any(-1)[:, None]
    return torch.stack([largest, mean], -1)


def latest_event(events: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
    """float32 [B, D]: the last real event, zeros without any."""
    last = (past.sum(1) - 1).clamp_min(0)
    return events[torch.arange(len(events)), last] * past.any(1)[:, None]


def mean_events(events: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
    """float32 [B, D]: mean over real events, zeros without any."""
    return (events * past[..., None]).sum(1) / past.sum(1).clamp_min(1)[:, None]

"""The multimodal ranker: behaviour, text and product picture, fused by attention.

    system = Multimodal(images=Path("runs/shop"));  system.fit(data);  system.scores(data, lists)

Every item, event and query has one token for its id, one for its words and one for its picture. What the shopper asked
for and did lately says how much each kind counts for a candidate: a softmax over its tokens, after the attentive metric
of Liu et al., "User diverse preference modeling by multimodal attentive metric learning", MM 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from reshelf.evaluation.baselines.inputs import InputBatch, Inputs, Rows
from reshelf.evaluation.baselines.layers import Attention, LastLayer, forget, mean_events, mean_words, nearness, table
from reshelf.evaluation.baselines.learning import Hyperparameters, LearnedSystem, RankingNet, at

SEARCH = (Hyperparameters(rate=2e-3, dropout=0.2), Hyperparameters(rate=1e-3, dropout=0.4))
KINDS_OF_TOKEN = 3
_FORGOTTEN = 0.1


class PictureEncoder(nn.Module):
    """Three convolutions and a mean over places; a learned vector for no picture. float32 [n, size]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(size))
        self.layers = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(24, size, 3, stride=2, padding=1), nn.GELU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(size, size),
        )  # fmt: skip

    def forward(self, rows: Rows) -> torch.Tensor:
        result = self.none.expand(len(rows.pictures), -1)
        there = rows.pictures.nonzero().squeeze(1)
        if len(there):
            pixels = rows.pixels[rows.pictures[there]].float() / 127.5 - 1
            result = result.index_put((there,), self.layers(pixels))
        return result


class MultimodalNet(RankingNet):
    """score = last layer(fused candidate, context, their product, nearness by kind of token; numbers)."""

    def __init__(self, inputs: Inputs, size: int, hidden: int, parameters: Hyperparameters) -> None:
        super().__init__()
        self.ids = table(len(inputs.known), size)
        self.words = table(len(inputs.vocabulary), size)
        self.picture = PictureEncoder(size)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(KINDS_OF_TOKEN))
        self.attentions = nn.ModuleList(Attention(size) for _ in range(KINDS_OF_TOKEN))
        self.context = nn.Sequential(nn.Linear((KINDS_OF_TOKEN + 1) * size, size), nn.GELU(), nn.Linear(size, size))
        self.key = nn.Linear(size, size)
        self.last = LastLayer(
            (3 + KINDS_OF_TOKEN) * size + 2 * KINDS_OF_TOKEN + 2, inputs.width, hidden, parameters.dropout
        )
        self._size = size

    def rows(self, rows: Rows) -> torch.Tensor:
        """float32 [n, 3 · size]: tokens of id, words, picture."""
        ids = self.ids(forget(rows.ids, _FORGOTTEN, self.training))
        tokens = [ids, mean_words(rows.words, self.words), self.picture(rows)]
        return torch.cat([norm(token) for norm, token in zip(self.norms, tokens, strict=True)], 1)

    def forward(self, batch: InputBatch, vectors: torch.Tensor) -> torch.Tensor:
        candidates, events = (at(vectors, index).split(self._size, -1) for index in (batch.candidates, batch.history))
        query = at(vectors, batch.query).split(self._size, -1)[1]
        context = self.context(torch.cat([query, *(mean_events(kind, batch.past) for kind in events)], -1))
        tokens = torch.stack(candidates, -2)
        weights = (self.key(tokens) @ context[:, None, :, None] / self._size**0.5).softmax(-2)
        fused = (weights * tokens).sum(-2)
        context = context[:, None].expand_as(fused)
        query_nearness = nearness(candidates[1], query[:, None], torch.ones(len(query), 1).bool())
        made = [fused, context, fused * context, query_nearness]
        for attend, mine, past in zip(self.attentions, candidates, events, strict=True):
            made += [mine * attend(mine, past, batch.past), nearness(mine, past, batch.past)]
        return self.last(torch.cat(made, -1), batch.numbers)


@dataclass(kw_only=True)
class Multimodal(LearnedSystem):
    """The multimodal ranker, trained with the listwise loss; `chosen` also says how many items have a picture
    (`pictures`) and have none (`no_picture`)."""

    recent: int = 10
    size: int = 48
    search: Sequence[Hyperparameters] = SEARCH
    name: str = "multimodal"

    def build(self, inputs: Inputs, parameters: Hyperparameters) -> RankingNet:
        return MultimodalNet(inputs, self.size, self.hidden, parameters)

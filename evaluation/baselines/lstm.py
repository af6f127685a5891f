"""The interest model: an LSTM over what the shopper did, asked by each candidate.

    system = Lstm(loss="listwise");  system.fit(data);  system.scores(data, lists)

GRU4Rec (Hidasi et al., ICLR 2016) gives the recurrent reading of a session, DIEN (Zhou et al., AAAI 2019) the candidate
that attends to the interest states. Items are read by id, brand, category, words, price, price level and rating.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from reshelf.evaluation.baselines.inputs import KINDS, InputBatch, Inputs, Rows
from reshelf.evaluation.baselines.layers import Attention, ItemEncoder, LastLayer, latest_event, nearness, table
from reshelf.evaluation.baselines.learning import Hyperparameters, LearnedSystem, Loss, RankingNet, at
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.losses.ranknet import ranknet

SEARCH = (
    Hyperparameters(rate=3e-3, dropout=0.2),
    Hyperparameters(rate=1e-3, dropout=0.2),
    Hyperparameters(rate=2e-3, dropout=0.5, decay=0.1),
)


class InterestNet(RankingNet):
    """score = last layer(candidate, interest, latest state, query, their products, nearness; numbers) + item bias."""

    def __init__(self, inputs: Inputs, size: int, hidden: int, parameters: Hyperparameters) -> None:
        super().__init__()
        self.item = ItemEncoder(inputs, size)
        self.bias = table(len(inputs.known), 1)
        self.kinds = table(len(KINDS), size)
        self.stars = nn.Parameter(torch.zeros(size))
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.attention = Attention(size)
        self.drop = nn.Dropout(parameters.dropout)
        self.last = LastLayer(7 * size + 2, inputs.width, hidden, parameters.dropout)

    def rows(self, rows: Rows) -> torch.Tensor:
        return torch.cat([self.item(rows), self.bias(rows.ids)], 1)

    def forward(self, batch: InputBatch, vectors: torch.Tensor) -> torch.Tensor:
        vectors, biases = vectors[:, :-1], vectors[:, -1:]
        items, candidates = at(vectors, batch.history), at(vectors, batch.candidates)
        events = items + self.kinds(batch.kinds) + batch.values[..., None] * self.stars
        # Events stand first and padding after them: what the LSTM makes of padding reaches no real state.
        states = self.lstm(self.drop(events))[0] + items
        interest = self.attention(candidates, states, batch.past)
        latest, query = latest_event(states, batch.past), at(vectors, batch.query)
        latest, query = (one[:, None].expand_as(candidates) for one in (latest, query))
        about = [interest, latest, query]
        made = [candidates, *about, *(candidates * one for one in about), nearness(candidates, items, batch.past)]
        return self.last(torch.cat(made, -1), batch.numbers) + at(biases, batch.candidates).squeeze(-1)


@dataclass(kw_only=True)
class Lstm(LearnedSystem):
    """The interest model with one of two losses; `name` follows from it."""

    loss: Literal["ranknet", "listwise"] = "listwise"
    """Pairs (Burges et al., 2005) or the whole list (ListNet, Cao et al., 2007)."""
    size: int = 48
    search: Sequence[Hyperparameters] = SEARCH
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"lstm_{self.loss}"

    @property
    def loss_function(self) -> Loss:
        return ranknet if self.loss == "ranknet" else listnet

    def build(self, inputs: Inputs, parameters: Hyperparameters) -> RankingNet:
        return InterestNet(inputs, self.size, self.hidden, parameters)

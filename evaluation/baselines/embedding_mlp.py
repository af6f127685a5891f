"""Embeddings of shoppers and products, and a multi-layer perceptron: neural collaborative filtering.

    system = EmbeddingMlp();  system.fit(data);  system.scores(data, lists)

He et al., WWW 2017: the perceptron and the product of the embeddings side by side (NeuMF), binary cross-entropy on each
(shopper, product). A shopper's embedding is now and then replaced by the unknown shopper's in training, and the mean of
the history's embeddings stands beside it (as in Covington et al., RecSys 2016): so a new shopper is ranked for too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from reshelf.evaluation.baselines.inputs import InputBatch, Inputs, Rows
from reshelf.evaluation.baselines.layers import ItemEncoder, LastLayer, forget, mean_events, table
from reshelf.evaluation.baselines.learning import Hyperparameters, LearnedSystem, Loss, RankingNet, at
from reshelf.finetune.losses.bce import bce

SEARCH = (
    Hyperparameters(rate=3e-3, dropout=0.2, decay=0.05),
    Hyperparameters(rate=3e-3, dropout=0.5),
    Hyperparameters(rate=1e-3, dropout=0.5),
)


class EmbeddingNet(RankingNet):
    """score = last layer(shopper, history, product, products of the first two with the third; numbers) + item bias."""

    def __init__(self, inputs: Inputs, size: int, hidden: int, forgotten: float, parameters: Hyperparameters) -> None:
        super().__init__()
        self.item = ItemEncoder(inputs, size)
        self.bias = table(len(inputs.known), 1)
        self.users = table(len(inputs.users), size)
        self.deep = nn.Sequential(nn.Dropout(parameters.dropout), nn.Linear(5 * size, hidden), nn.GELU())
        self.last = LastLayer(hidden, inputs.width, hidden, parameters.dropout)
        self._forgotten = forgotten

    def rows(self, rows: Rows) -> torch.Tensor:
        return torch.cat([self.item(rows), self.bias(rows.ids)], 1)

    def forward(self, batch: InputBatch, vectors: torch.Tensor) -> torch.Tensor:
        vectors, biases = vectors[:, :-1], vectors[:, -1:]
        candidates = at(vectors, batch.candidates)
        user = self.users(forget(batch.users, self._forgotten, self.training))
        history = mean_events(at(vectors, batch.history), batch.past)
        user, history = (one[:, None].expand_as(candidates) for one in (user, history))
        made = self.deep(torch.cat([candidates, user, history, candidates * user, candidates * history], -1))
        return self.last(made, batch.numbers) + at(biases, batch.candidates).squeeze(-1)


@dataclass(kw_only=True)
class EmbeddingMlp(LearnedSystem):
    """Neural collaborative filtering over the rows of the lists."""

    size: int = 32
    forgotten: float = 0.3
    """Share of training lists shown as a new shopper's."""
    search: Sequence[Hyperparameters] = SEARCH
    name: str = "embedding_mlp"

    @property
    def loss_function(self) -> Loss:
        return bce

    def build(self, inputs: Inputs, parameters: Hyperparameters) -> RankingNet:
        return EmbeddingNet(inputs, self.size, self.hidden, self.forgotten, parameters)

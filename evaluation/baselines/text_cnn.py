"""The convolutional ranker: query, behaviour and product as text, read by one bank of filters.

    system = TextCnn();  system.fit(data);  system.scores(data, lists)

Filters over two, three and four words with the maximum over places (Kim, EMNLP 2014), one bank for every text; a small
network compares the vectors (after Severyn and Moschitti, SIGIR 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from reshelf.evaluation.baselines.inputs import InputBatch, Inputs, Rows
from reshelf.evaluation.baselines.layers import Attention, LastLayer, mean_events, nearness, table
from reshelf.evaluation.baselines.learning import Hyperparameters, LearnedSystem, RankingNet, Schedule, at

WIDTHS = (2, 3, 4)
_GROUPS = 4
SEARCH = (Hyperparameters(rate=2e-3, dropout=0.2), Hyperparameters(rate=1e-3, dropout=0.5))


class TextEncoder(nn.Module):
    """A text as the strongest activation of each filter, plus its single words: float32 [n, size]."""

    def __init__(self, inputs: Inputs, words: int, filters: int) -> None:
        super().__init__()
        self.words = table(len(inputs.vocabulary), words)
        self.banks = nn.ModuleList(nn.Conv1d(words, filters, width) for width in WIDTHS)
        self.size = words + filters * len(WIDTHS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """From int64 [n, W], zeros after the last word."""
        lengths = (words > 0).sum(1)
        # Texts of like length together: half of the table is padding, and the filters need not read it.
        order = lengths.argsort(stable=True)
        parts = [self._read(words[some][:, : max(1, int(lengths[some].max()))]) for some in order.chunk(_GROUPS)]
        return at(torch.cat(parts), order.argsort())

    def _read(self, words: torch.Tensor) -> torch.Tensor:
        there = words > 0
        found = self.words(words)
        pooled = [found.sum(1) / there.sum(1).clamp_min(1)[:, None]]
        for bank, width in zip(self.banks, WIDTHS, strict=True):
            # width − 1 zeros on the right: a filter may begin at any word of a short text, at none behind its end.
            activations = bank(F.pad(found.mT, (0, width - 1))).relu()
            pooled.append((activations * there[:, None, :]).amax(-1))
        return torch.cat(pooled, 1)


class TextNet(RankingNet):
    """score = last layer(candidate, query, history, attended history, their products, nearness; numbers)."""

    def __init__(self, inputs: Inputs, words: int, filters: int, hidden: int, parameters: Hyperparameters) -> None:
        super().__init__()
        self.text = TextEncoder(inputs, words, filters)
        size = self.text.size
        self.norm = nn.LayerNorm(size)
        self.attention = Attention(size)
        self.last = LastLayer(7 * size + 4, inputs.width, hidden, parameters.dropout)

    def rows(self, rows: Rows) -> torch.Tensor:
        return self.norm(self.text(rows.words))

    def forward(self, batch: InputBatch, vectors: torch.Tensor) -> torch.Tensor:
        events, candidates = at(vectors, batch.history), at(vectors, batch.candidates)
        query = at(vectors, batch.query)[:, None]
        near = [nearness(candidates, events, batch.past), nearness(candidates, query, torch.ones(len(query), 1).bool())]
        history = mean_events(events, batch.past)[:, None].expand_as(candidates)
        about = [query.expand_as(candidates), history, self.attention(candidates, events, batch.past)]
        made = [candidates, *about, *(candidates * one for one in about), *near]
        return self.last(torch.cat(made, -1), batch.numbers)


@dataclass(kw_only=True)
class TextCnn(LearnedSystem):
    """The text ranker, trained with the listwise loss."""

    recent: int = 10
    words: int = 48
    """Size of a word's embedding."""
    filters: int = 24
    """Filters of each width."""
    search: Sequence[Hyperparameters] = SEARCH
    schedule: Schedule = field(default_factory=partial(Schedule, steps=1200))
    name: str = "text_cnn"

    def build(self, inputs: Inputs, parameters: Hyperparameters) -> RankingNet:
        return TextNet(inputs, self.words, self.filters, self.hidden, parameters)

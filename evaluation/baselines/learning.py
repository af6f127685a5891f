"""How the learned systems are trained: batches of lists, AdamW, early stopping on nDCG@10, and a small search.

    net, chosen = learn(build, SEARCH, inputs, data, listnet, seed=0);  predict(net, rows, encoded)

Settings are tried for some steps each; the better one goes on until nDCG@10 on the validation lists no longer rises,
then once more from its best weights with a smaller step. The best weights are kept. One process, the CPU, no global
random state: the same seed gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.inputs import Encoded, InputBatch, Inputs, Rows, collate
from reshelf.evaluation.baselines.selection import SelectionMetric
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.losses.weighted_sum import LossSum

Loss = Callable[..., LossSum]
_CHUNK = 1024
_CLIP = 5.0


@dataclass(frozen=True)
class Hyperparameters:
    """What the search varies."""

    rate: float = 2e-3
    """Step size of AdamW."""
    dropout: float = 0.2
    decay: float = 0.01
    """Weight decay."""


@dataclass(frozen=True)
class Schedule:
    """How long, and on how much."""

    batch: int = 64
    """Lists per step."""
    width: int = 20
    """Candidates of a list per step: the wanted ones, and others drawn anew each time."""
    steps: int = 2400
    """Most steps of the chosen setting."""
    trial: int = 200
    """Steps of each setting in the search."""
    every: int = 100
    """Most steps between two validations; an epoch where that is shorter, but not under `least`."""
    least: int = 20
    patience: int = 4
    """Validations without a better one that end training (and, the first time, make the step smaller)."""
    rate_factor: float = 0.2
    """Factor on the step size after the first such end."""
    valid_lists: int = 500
    """Validation lists used, the first ones."""

    def for_single_candidates(self) -> Schedule:
        """More lists at a time where each holds one candidate, for a batch to be worth ordering."""
        return replace(self, batch=4 * self.batch, valid_lists=10 * self.valid_lists)


class RankingNet(nn.Module):
    """A network that first reads rows of the table, then lists of them."""

    def rows(self, rows: Rows) -> torch.Tensor:
        """float32 [n, D]: what is known of each row alone."""
        raise NotImplementedError

    def forward(self, batch: InputBatch, vectors: torch.Tensor) -> torch.Tensor:
        """float32 [B, K]: raw scores.

        Args:
            batch: `query`, `history` and `candidates` point into `vectors`.
            vectors: float32 [n, D], of `rows`; zeros for nothing.
        """
        raise NotImplementedError


def at(vectors: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """float32 [*index, D]. As an embedding, whose gradient is summed in a fixed order by any number of threads."""
    return F.embedding(index, vectors)


def learn(
    build: Callable[[Hyperparameters], RankingNet],
    search: Sequence[Hyperparameters],
    inputs: Inputs,
    data: RankingData,
    loss: Loss,
    seed: int,
    advance: Callable[[int], None] | None = None,
    schedule: Schedule | None = None,
) -> tuple[RankingNet, dict[str, Any]]:
    """The best network, and what the search chose.

    Args:
        build: makes a network; called under the seed.
        search: settings to try; a single one is not tried first.
        loss: of `reshelf.finetune.losses`.
        advance: called with the number of lists of every step.

    Raises:
        InputError: train or valid has no list that teaches or measures anything.
    """
    schedule = schedule or Schedule()
    train, valid = (useful(data.lists.get(split, []), split) for split in ("train", "valid"))
    if _single(train):
        schedule = schedule.for_single_candidates()
    valid = valid[: schedule.valid_lists]
    rows, encoded = inputs.encode(data.items, [*train, *valid])
    train_lists, valid_lists = encoded[: len(train)], encoded[len(train) :]
    runs = []
    with torch.random.fork_rng(devices=[]):
        for parameters in search:
            torch.manual_seed(seed)
            run = Training(build(parameters), parameters, loss, rows, train_lists, valid_lists, schedule, seed)
            if len(search) > 1:
                run.train_to(schedule.trial, advance)
            runs.append(run)
        best = max(runs, key=lambda run: run.best)
        torch.manual_seed(seed + 1)
        best.train_to(schedule.steps, advance)
        best.reduce_rate()
        best.train_to(schedule.steps, advance)
    best.restore()
    facts: dict[str, Any] = {
        "rate": best.parameters.rate,
        "dropout": best.parameters.dropout,
        "decay": best.parameters.decay,
    }
    if inputs.images is not None:
        pictures = int((rows.pictures > 0).sum())
        facts |= {"pictures": pictures, "no_picture": len(data.items) - pictures}
    return best.net, {**facts, "steps": best.best_step, "valid": best.best}


def useful(lists: Sequence[RankingList], split: str) -> list[RankingList]:
    """Lists with something to order: a wanted candidate. Where every list holds one candidate, all labelled lists.

    Raises:
        InputError: there is none.
    """
    labelled = [one for one in lists if one.labels is not None]
    wanted = [one for one in labelled if any(one.labels or ())]
    if not wanted:
        raise InputError(f"{split}.parquet has no list with a label above 0; a learned system cannot be trained on it")
    return labelled if _single(labelled) else wanted


def _single(lists: Sequence[RankingList] | Sequence[Encoded]) -> bool:
    return all(len(one.candidates) == 1 for one in lists)


class Training:
    """One network on its way."""

    def __init__(
        self,
        net: RankingNet,
        parameters: Hyperparameters,
        loss: Loss,
        rows: Rows,
        train: Sequence[Encoded],
        valid: Sequence[Encoded],
        schedule: Schedule,
        seed: int,
    ) -> None:
        self.net, self.parameters, self.schedule = net, parameters, schedule
        self._loss, self._rows, self._valid = loss, rows, valid
        self._batches = batches(train, schedule, np.random.default_rng(seed))
        self._metric = SelectionMetric([one.labels for one in valid])
        self._together = _single(train)
        self._every = min(schedule.every, max(schedule.least, -(-len(train) // schedule.batch)))
        self._optimizer = self._make_optimizer(parameters.rate)
        self.step = self.best_step = 0
        self.best = -np.inf
        self.curve: list[tuple[int, float]] = []
        """(step, metric on the validation lists) of every validation."""
        self._weights: dict[str, torch.Tensor] = {}
        self._waited = 0

    def train_to(self, steps: int, advance: Callable[[int], None] | None = None) -> None:
        """Train to step `steps`, or until validation no longer gets better."""
        while self.step < steps and self._waited < self.schedule.patience:
            lists = next(self._batches)
            self.net.train()
            self._optimizer.zero_grad()
            value = self._value(collate(lists))
            value.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP)
            self._optimizer.step()
            self.step += 1
            if advance:
                advance(len(lists))
            if self.step % self._every == 0 or self.step == steps:
                self._validate()

    def reduce_rate(self) -> None:
        """Back to the best weights, with smaller steps from there."""
        self.restore()
        self._optimizer = self._make_optimizer(self.parameters.rate * self.schedule.rate_factor)
        self._waited = 0

    def restore(self) -> None:
        """The weights of the best validation."""
        self.net.load_state_dict(self._weights)

    def _make_optimizer(self, rate: float) -> torch.optim.Optimizer:
        # Fused: one pass over the tables of ids, which are most of the weights.
        return torch.optim.AdamW(self.net.parameters(), lr=rate, weight_decay=self.parameters.decay, fused=True)

    def _validate(self) -> None:
        value = self._metric(predict(self.net, self._rows, self._valid))
        self.curve.append((self.step, value))
        self._waited += 1
        if value > self.best:
            self.best, self.best_step, self._waited = value, self.step, 0
            self._weights = deepcopy(self.net.state_dict())

    def _value(self, batch: InputBatch) -> torch.Tensor:
        used, pointing = _pointing(batch)
        scores = self.net(pointing, _vectors(self.net, self._rows, used))
        labels, mask = batch.labels, batch.mask
        if self._together:
            # A list of one candidate has no order; the batch has one, and AUC over all rows is about it.
            scores, labels, mask = scores.T, labels.T, mask.T
        return self._loss(scores, labels, mask, torch.ones(len(scores)), torch.ones_like(scores)).mean()


def batches(lists: Sequence[Encoded], schedule: Schedule, rng: np.random.Generator) -> Iterator[list[Encoded]]:
    """Endless; every list once before any list twice."""
    while True:
        order = rng.permutation(len(lists))
        for start in range(0, len(order), schedule.batch):
            yield [thinned(lists[n], schedule.width, rng) for n in order[start : start + schedule.batch]]


def thinned(one: Encoded, width: int, rng: np.random.Generator) -> Encoded:
    """Of a list with more candidates than `width`: the wanted ones, and others at random up to `width`."""
    if len(one.candidates) <= width:
        return one
    wanted, others = np.flatnonzero(one.labels > 0), np.flatnonzero(one.labels == 0)
    number = min(len(others), max(1, width - len(wanted)))
    return one.only(np.sort(np.concatenate([wanted, rng.choice(others, number, replace=False)])))


@torch.no_grad()
def predict(net: RankingNet, rows: Rows, lists: Sequence[Encoded], batch: int = 64) -> list[np.ndarray]:
    """float64 [K] per list. Each row is read once, however many lists show it."""
    if not lists:
        return []
    net.eval()
    pointers = [(one.candidates, one.history, [0, one.query]) for one in lists]
    used = torch.from_numpy(np.unique(np.concatenate([part for parts in pointers for part in parts]).astype(np.int64)))
    vectors = torch.cat([_vectors(net, rows, chunk) for chunk in used.split(_CHUNK)])
    place = torch.zeros(len(rows.ids), dtype=torch.int64)
    place[used] = torch.arange(len(used))
    result: list[np.ndarray] = []
    for start in range(0, len(lists), batch):
        some = lists[start : start + batch]
        scores = net(_pointed(collate(some), place), vectors).double().numpy()
        result += [row[: len(one.candidates)].copy() for row, one in zip(scores, some)]
    return result


@dataclass(kw_only=True)
class LearnedSystem:
    """What the learned systems share; each adds its sizes and `build`, and its loss where it is not listwise."""

    seed: int = 0
    features: bool = True
    """Read the lists' numbers too."""
    recent: int = 20
    """Events at the end of a history that are read."""
    images: Path | None = None
    """The folder that `Item.image` is relative to; None: no item has a picture."""
    hidden: int = 64
    search: Sequence[Hyperparameters] = (Hyperparameters(),)
    schedule: Schedule = field(default_factory=Schedule)
    chosen: dict[str, Any] = field(default_factory=dict)
    """What the search chose."""
    name: str = ""

    @property
    def loss_function(self) -> Loss:
        """Of `reshelf.finetune.losses`."""
        return listnet

    def build(self, inputs: Inputs, parameters: Hyperparameters) -> RankingNet:
        """An untrained network."""
        raise NotImplementedError

    def fit(self, data: RankingData, advance: Callable[[int], None] | None = None) -> None:
        """Train on `data.lists["train"]`, choose and stop on `data.lists["valid"]`.

        Raises:
            InputError: a split has no list with a label above 0.
        """
        self._inputs = Inputs.of(data, self.features, self.recent, self.images)
        self._net, self.chosen = learn(
            partial(self.build, self._inputs), self.search, self._inputs, data, self.loss_function, self.seed, advance,
            self.schedule,
        )  # fmt: skip

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list, whether or not training saw their shoppers and items."""
        return predict(self._net, *self._inputs.encode(data.items, lists))


def _pointing(batch: InputBatch) -> tuple[torch.Tensor, InputBatch]:
    """The rows of a batch, each once, and the batch pointing into them."""
    used = torch.unique(torch.cat([part.flatten() for part in (batch.candidates, batch.history, batch.query)]))
    place = torch.zeros(int(used.max()) + 1, dtype=torch.int64)
    place[used] = torch.arange(len(used))
    return used, _pointed(batch, place)


def _pointed(batch: InputBatch, place: torch.Tensor) -> InputBatch:
    names = ("candidates", "history", "query")
    return replace(batch, **{name: place[getattr(batch, name)] for name in names})


def _vectors(net: RankingNet, rows: Rows, used: torch.Tensor) -> torch.Tensor:
    return net.rows(rows.take(used)) * (used > 0)[:, None]

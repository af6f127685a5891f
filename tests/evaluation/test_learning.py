"""The shared training loop and the shared encoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.evaluation.baselines.inputs import UNKNOWN, Encoded, InputBatch, Inputs, Rows, collate
from reshelf.evaluation.baselines.layers import Attention, forget, latest_event, mean_events, nearness
from reshelf.evaluation.baselines.learning import (
    Hyperparameters,
    RankingNet,
    Schedule,
    Training,
    at,
    batches,
    learn,
    predict,
    thinned,
    useful,
)
from reshelf.evaluation.baselines.lstm import InterestNet
from reshelf.evaluation.baselines.scale import Scale
from reshelf.evaluation.baselines.selection import SelectionMetric
from reshelf.finetune.losses.bce import bce
from reshelf.finetune.losses.listnet import listnet


class Taste(RankingNet):
    """The smallest ranker: one number per item."""

    def __init__(self, known: int) -> None:
        super().__init__()
        self.worth = nn.Embedding(known + 2, 1)

    def rows(self, rows: Rows) -> torch.Tensor:
        return self.worth(rows.ids)

    def forward(self, batch: InputBatch, vectors: torch.Tensor) -> torch.Tensor:
        return at(vectors, batch.candidates).squeeze(-1)


def taste_shop(single: bool = False) -> RankingData:
    """Item n is wanted the more, the larger n; in validation, the smaller."""
    rng = np.random.default_rng(2)
    items = {f"i{n}": Item(item_id=f"i{n}", title="thing") for n in range(20)}
    lists: dict[str, list[RankingList]] = {}
    for split, count in (("train", 120), ("valid", 40)):
        lists[split] = []
        for n in range(count):
            shown = rng.choice(20, 1 if single else 6, replace=False)
            labels = (shown > 9) if single else (shown == shown.max())
            ids = tuple(f"i{item}" for item in shown)
            labels = tuple(3 * int(x) for x in labels)
            lists[split].append(RankingList(list_id=f"{split}{n}", user_id="u", candidates=ids, labels=labels))
    return RankingData(items, lists)


def encoded(candidates: int, wanted: int) -> Encoded:
    rows = np.arange(1, candidates + 1)
    none = np.zeros(0, dtype=np.int64)
    labels = np.zeros(candidates, dtype=np.int64)
    labels[:wanted] = 3
    numbers = rows[:, None].astype(np.float32)
    return Encoded(1, 0, none, none, np.zeros(0, dtype=np.float32), rows, numbers, labels)


def training(data: RankingData, parameters: Hyperparameters, schedule: Schedule, reverse: bool = False) -> Training:
    inputs = Inputs.of(data)
    lists = [*data.lists["train"], *data.lists["valid"]]
    rows, made = inputs.encode(data.items, lists)
    train, valid = made[: len(data.lists["train"])], made[len(data.lists["train"]) :]
    if reverse:
        worst = [np.where(one.candidates == one.candidates.min(), 3, 0) for one in valid]
        valid = [replace(one, labels=labels) for one, labels in zip(valid, worst)]
    torch.manual_seed(0)
    return Training(Taste(len(inputs.known)), parameters, listnet, rows, train, valid, schedule, seed=0)


def test_early_stopping_keeps_the_best_weights_not_the_last() -> None:
    schedule = Schedule(batch=16, steps=400, every=5, least=1, patience=3)
    # What training teaches is wrong on the validation lists: it gets worse and worse.
    run = training(taste_shop(), Hyperparameters(rate=0.05), schedule, reverse=True)
    run.train_to(schedule.steps)
    assert run.step < schedule.steps, "it stopped"
    values = [value for _, value in run.curve]
    assert run.best == max(values) > values[-1] + 0.05
    assert run.step == run.best_step + schedule.patience * schedule.every
    run.restore()
    assert SelectionMetric([o.labels for o in run._valid])(predict(run.net, run._rows, run._valid)) == run.best
    run.reduce_rate()
    assert [group["lr"] for group in run._optimizer.param_groups] == [pytest.approx(0.05 * schedule.rate_factor)]


def test_a_small_set_is_looked_at_after_every_epoch() -> None:
    run = training(taste_shop(), Hyperparameters(rate=0.01), Schedule(batch=40, steps=9, every=100, least=1))
    run.train_to(9)
    assert [step for step, _ in run.curve] == [3, 6, 9]


def test_the_search_takes_the_better_setting() -> None:
    data = taste_shop()
    inputs = Inputs.of(data)
    schedule = Schedule(batch=16, steps=60, trial=20, every=10, least=1)
    search = (Hyperparameters(rate=1e-6), Hyperparameters(rate=0.1), Hyperparameters(rate=1e-5))
    net, chosen = learn(lambda _: Taste(len(inputs.known)), search, inputs, data, listnet, 0, schedule=schedule)
    assert chosen["rate"] == 0.1
    assert chosen["valid"] > 0.9
    rows, lists = inputs.encode(data.items, data.lists["valid"])
    assert SelectionMetric([one.labels for one in lists])(predict(net, rows, lists)) == chosen["valid"]


@pytest.mark.parametrize("loss", [listnet, bce])
def test_lists_of_one_candidate_are_ranked_as_a_batch_and_measured_by_auc(loss: object) -> None:
    data = taste_shop(single=True)
    inputs = Inputs.of(data)
    schedule = Schedule(batch=30, steps=60, every=10, least=1)
    _, chosen = learn(
        lambda _: Taste(len(inputs.known)), [Hyperparameters(rate=0.1)], inputs, data, loss, 0, schedule=schedule
    )  # type: ignore[arg-type]
    assert chosen["valid"] > 0.95
    assert SelectionMetric([[1], [0], [1], [0]])([np.array([x]) for x in (3.0, 2.0, 1.0, 0.0)]) == 0.75


def test_lists_that_teach_nothing_are_left_out_and_a_split_of_them_is_a_mistake() -> None:
    data = taste_shop()
    one = data.lists["train"][0]
    bare, cold = one.model_copy(update={"labels": None}), one.model_copy(update={"labels": (0,) * 6})
    assert useful([bare, one, cold], "train") == [one]
    for lists in ([], [bare], [cold, bare]):
        with pytest.raises(InputError, match=r"valid\.parquet"):
            useful(lists, "valid")
    with pytest.raises(InputError, match=r"valid\.parquet"):
        learn(
            lambda _: Taste(20),
            [Hyperparameters()],
            Inputs.of(data),
            RankingData(data.items, {"train": [one]}),
            listnet,
            0,
        )


@given(st.integers(1, 40), st.integers(0, 40), st.integers(2, 20), st.integers(0, 9))
def test_thinning_keeps_every_wanted_candidate(size: int, wanted: int, width: int, seed: int) -> None:
    one = encoded(size, min(wanted, size))
    thin = thinned(one, width, np.random.default_rng(seed))
    assert (thin.labels > 0).sum() == (one.labels > 0).sum()
    assert len(thin.candidates) <= max(width, 1 + min(wanted, size))
    assert len(thin.candidates) >= min(size, width)
    assert np.array_equal(thin.numbers[:, 0], thin.candidates), "parallel fields stay together"
    assert len(set(thin.candidates.tolist())) == len(thin.candidates)


def test_every_list_comes_once_before_any_comes_twice() -> None:
    lists = [encoded(n, 1) for n in range(1, 11)]
    stream = batches(lists, Schedule(batch=4), np.random.default_rng(0))
    epochs = [[len(one.candidates) for _ in range(3) for one in next(stream)] for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(1, 11))] * 2
    assert epochs[0] != epochs[1]


def test_rows_read_once_give_the_scores_of_rows_read_by_each_batch(shop: RankingData) -> None:
    inputs = Inputs.of(shop)
    rows, lists = inputs.encode(shop.items, shop.lists["test"])
    torch.manual_seed(0)
    run = Training(
        InterestNet(inputs, 8, 8, Hyperparameters()), Hyperparameters(), listnet, rows, lists, lists, Schedule(), 0
    )
    seen = []

    def spy(scores: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        seen.append(scores.detach().double().numpy())
        return scores.sum()

    run._loss = spy
    run.net.eval()
    run._value(collate(lists[:7]))
    expected = predict(run.net, rows, lists)[:7]
    assert np.allclose(np.concatenate(seen), np.stack(expected), atol=1e-6)


def test_histories_queries_and_unknown_things_find_their_rows() -> None:
    items = {
        "a": Item(item_id="a", title="Red shoe", brand="Nord", category=("Wear", "Shoes"), price=5.0),
        "b": Item(item_id="b", title="Blue lamp", price=9.0),
        "c": Item(item_id="c", title="Blue hat", brand="Nord"),
    }
    history = (
        Event(kind=EventKind.RATING, item_id="a", value=1.0),
        Event(kind=EventKind.SEARCH, query="blue hat"),
        Event(kind=EventKind.CLICK, item_id="b"),
    )
    one = RankingList(list_id="l", user_id="u", query="red", history=history, candidates=("b", "a"), labels=(0, 3))
    other = RankingList(list_id="m", user_id="v", candidates=("c",), labels=(1,))
    inputs = Inputs.of(RankingData(items, {"train": [one]}), recent=2)
    rows, (first, second) = inputs.encode(items, [one, other])
    assert first.candidates.tolist() == [2, 1]
    assert [rows.words[row].tolist() for row in (first.query, *first.history)] == [
        [inputs.vocabulary["red"], 0, 0, 0],
        [inputs.vocabulary["blue"], inputs.vocabulary["hat"], 0, 0],
        [inputs.vocabulary["blue"], inputs.vocabulary["lamp"], 0, 0],
    ]
    assert rows.ids.tolist() == [0, inputs.known["a"], inputs.known["b"], UNKNOWN, 0, 0]
    assert rows.brands[3] == rows.brands[1] > UNKNOWN
    assert (rows.leaves[1] > UNKNOWN, rows.leaves[2]) == (True, 0)
    assert (first.user, second.user, second.query, len(second.history)) == (2, UNKNOWN, 0, 0)
    everything = replace(inputs, recent=3).encode(items, [one])[1][0]
    assert everything.values.tolist() == [-1.0, 0.0, 0.0]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=3, max_size=40), st.integers(0, 9))
def test_scaled_numbers_are_bounded_and_keep_their_order(values: list[float | None], seed: int) -> None:
    column = np.array([np.nan if value is None else value for value in values])
    table = np.stack([column, np.full(len(column), 7.0)], axis=1)
    scale = Scale.of(table)
    there = ~np.isnan(column)
    if len(np.unique(column[there])) < 2:
        assert scale.width == int(there.any() and not there.all())
        return
    scaled = scale(table)
    assert scaled.shape == (len(column), 2 + int(not there.all()))
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= 4
    order = np.argsort(column[there], kind="stable")
    assert (np.diff(scaled[there][order, :2], axis=0) >= 0).all()
    assert (scaled[~there, :2] == 0).all()
    strange = scale(np.array([[np.nan, np.nan], [1e300, 0.0], [-1e300, 0.0]]))
    assert np.isfinite(strange).all()
    assert np.abs(strange).max() <= 4


def test_in_training_some_known_ids_become_unknown_and_never_otherwise() -> None:
    torch.manual_seed(0)
    ids = torch.arange(5).repeat(2000)
    assert torch.equal(forget(ids, 0.3, training=False), ids)
    lost = forget(ids, 0.3, training=True)
    changed = (lost != ids).view(2000, 5).float().mean(0)
    assert changed[:2].tolist() == [0, 0], "nothing and unknown stay what they are"
    assert torch.allclose(changed[2:], torch.tensor(0.3), atol=0.05)
    assert set(lost[lost != ids].tolist()) == {UNKNOWN}


def test_what_is_made_of_a_history_does_not_see_its_padding() -> None:
    torch.manual_seed(0)
    events, candidates = torch.randn(3, 4, 6), torch.randn(3, 2, 6)
    lengths = [4, 2, 0]
    past = torch.arange(4) < torch.tensor(lengths)[:, None]
    for n, length in enumerate(lengths):
        real = events[n, :length]
        assert torch.equal(latest_event(events, past)[n], real[-1] if length else torch.zeros(6))
        assert torch.allclose(mean_events(events, past)[n], real.mean(0) if length else torch.zeros(6))
        cosines = torch.stack([torch.cosine_similarity(c[None], real) for c in candidates[n]])
        expected = torch.stack([cosines.amax(1), cosines.mean(1)], 1) if length else torch.zeros(2, 2)
        assert torch.allclose(nearness(candidates, events, past)[n], expected, atol=1e-6)
        attention = Attention(6)
        alone = attention(candidates[n : n + 1], real[None], torch.ones(1, length).bool())
        assert torch.allclose(attention(candidates, events, past)[n], alone[0], atol=1e-6)

"""Each neural system learns what it is there for, the same way twice, and ranks for what it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.evaluation.baselines.embedding_mlp import EmbeddingMlp
from reshelf.evaluation.baselines.learning import Hyperparameters, Schedule
from reshelf.evaluation.baselines.lstm import Lstm
from reshelf.evaluation.baselines.multimodal import Multimodal
from reshelf.evaluation.baselines.selection import SelectionMetric
from reshelf.evaluation.baselines.text_cnn import TextCnn

Neural = Lstm | TextCnn | EmbeddingMlp | Multimodal
Wants = Callable[[int, list[int], np.ndarray], np.ndarray]
"""(shopper, history's items, candidates) -> bool [K]"""

GROUPS, ITEMS, SHOPPERS = 4, 80, 24
WORDS = ("copper", "linen", "cedar", "marble")
COLOURS = ((220, 30, 30), (30, 200, 40), (30, 40, 220), (230, 220, 40))
SCHEDULE = Schedule(batch=32, steps=100, every=50)
SEARCH = (Hyperparameters(rate=5e-3, dropout=0.1),)


def shop(items: dict[str, Item], wants: Wants, history: int) -> RankingData:
    """Lists of 8 over items i0 …; item n is of group n % 4; the last histories' groups are mixed."""
    rng = np.random.default_rng(11)
    lists: dict[str, list[RankingList]] = {}
    for split, count in (("train", 400), ("valid", 60), ("test", 80)):
        lists[split] = []
        for n in range(count):
            shopper = int(rng.integers(SHOPPERS))
            past = rng.choice(ITEMS, history).tolist()
            shown = rng.choice(ITEMS, 8, replace=False)
            lists[split].append(
                RankingList(
                    list_id=f"{split}{n}",
                    user_id=f"u{shopper}",
                    history=tuple(Event(kind=EventKind.CLICK, item_id=f"i{item}") for item in past),
                    candidates=tuple(f"i{item}" for item in shown),
                    labels=tuple(int(x) for x in np.where(wants(shopper, past, shown), 3, 0)),
                )
            )
    return RankingData(items, lists)


def plain(n: int, **fields: object) -> Item:
    return Item.model_validate({"item_id": f"i{n}", "title": "thing"} | fields)


def like_last(_: int, past: list[int], shown: np.ndarray) -> np.ndarray:
    return shown % GROUPS == past[-1] % GROUPS


def own_group(shopper: int, _: list[int], shown: np.ndarray) -> np.ndarray:
    return shown % GROUPS == shopper % GROUPS


def by_brand() -> dict[str, Item]:
    return {f"i{n}": plain(n, brand=f"brand{n % GROUPS}") for n in range(ITEMS)}


def by_word() -> dict[str, Item]:
    rng = np.random.default_rng(4)
    return {
        f"i{n}": plain(n, title=" ".join(rng.permutation(["fine", WORDS[n % GROUPS], "thing", f"no{n}"])))
        for n in range(ITEMS)
    }


def by_picture(folder: Path) -> dict[str, Item]:
    rng = np.random.default_rng(4)
    (folder / "images").mkdir()
    for n in range(ITEMS):
        # A shade and a size of its own for each; only the colour is shared.
        pixels = np.clip(np.array(COLOURS[n % GROUPS]) + rng.normal(0, 15, (40, 30, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"i{n}.png")
    return {f"i{n}": plain(n, image=f"images/i{n}.png") for n in range(ITEMS)}


def mean_ndcg(scores: list[np.ndarray], lists: list[RankingList]) -> float:
    return SelectionMetric([one.labels or () for one in lists])(scores)


def quick(system: Neural) -> Neural:
    return replace(system, features=False, schedule=SCHEDULE, search=SEARCH)


def result(system: Neural, data: RankingData) -> float:
    system.fit(data)
    return mean_ndcg(system.scores(data, data.lists["test"]), data.lists["test"])


def chance(data: RankingData) -> float:
    rng = np.random.default_rng(0)
    return mean_ndcg([rng.random(len(one.candidates)) for one in data.lists["test"]], data.lists["test"])


@pytest.mark.parametrize("loss", ["ranknet", "listwise"])
def test_lstm_learns_that_the_latest_event_counts(loss: str) -> None:
    data = shop(by_brand(), like_last, history=3)
    system = quick(Lstm(loss=loss))  # type: ignore[arg-type]
    assert system.name == f"lstm_{loss}"
    assert result(system, data) > 0.9 > chance(data) + 0.2


def test_the_text_cnn_learns_that_a_shared_word_counts() -> None:
    data = shop(by_word(), like_last, history=1)
    assert result(quick(TextCnn()), data) > 0.9 > chance(data) + 0.2


def test_the_text_cnn_reads_the_order_of_words() -> None:
    items = {f"i{n}": plain(n, title="oak not pine" if n % GROUPS else "pine not oak") for n in range(ITEMS)}
    data = shop(items, lambda _, __, shown: shown % GROUPS == 0, history=1)
    assert result(quick(TextCnn()), data) > 0.95


def test_the_embedding_mlp_learns_what_each_shopper_always_wants() -> None:
    data = shop(by_brand(), own_group, history=0)
    assert result(quick(EmbeddingMlp()), data) > 0.9 > chance(data) + 0.2


def test_the_embedding_mlp_ranks_for_new_shoppers_by_their_history() -> None:
    data = shop(by_brand(), like_last, history=1)
    system = quick(EmbeddingMlp())
    system.fit(data)
    new = [one.model_copy(update={"user_id": f"new{one.user_id}"}) for one in data.lists["test"]]
    assert mean_ndcg(system.scores(data, new), new) > 0.9


def test_the_multimodal_ranker_learns_from_the_colour_of_pictures_alone(tmp_path: Path) -> None:
    data = shop(by_picture(tmp_path), like_last, history=1)
    # New ids for everything in the test lists: nothing but the pictures is left to go by.
    renamed = {
        f"x{item_id}": item.model_copy(update={"item_id": f"x{item_id}"}) for item_id, item in data.items.items()
    }
    new = [
        one.model_copy(
            update={
                "candidates": tuple(f"x{c}" for c in one.candidates),
                "history": tuple(e.model_copy(update={"item_id": f"x{e.item_id}"}) for e in one.history),
            }
        )
        for one in data.lists["test"]
    ]
    system = quick(Multimodal(images=tmp_path))
    system.fit(data)
    assert mean_ndcg(system.scores(RankingData(renamed), new), new) > 0.9 > chance(data) + 0.2
    assert (system.chosen["pictures"], system.chosen["no_picture"]) == (ITEMS, 0)


def test_pictures_that_cannot_be_read_are_counted_and_not_fatal(tmp_path: Path) -> None:
    items = by_picture(tmp_path)
    (tmp_path / "images" / "i0.png").write_bytes(b"no picture")
    (tmp_path / "images" / "i1.png").unlink()
    items["i2"] = plain(2)
    items["i3"] = plain(3, image="https://shop.example/i3.png")
    data = shop(items, like_last, history=1)
    system = replace(quick(Multimodal(images=tmp_path)), schedule=replace(SCHEDULE, steps=2))
    system.fit(data)
    assert (system.chosen["pictures"], system.chosen["no_picture"]) == (ITEMS - 4, 4)
    assert all(np.isfinite(s).all() for s in system.scores(data, data.lists["test"]))


ALL: tuple[Callable[[], Neural], ...] = (lambda: Lstm(loss="ranknet"), Lstm, TextCnn, EmbeddingMlp, Multimodal)
IDS = ["lstm_ranknet", "lstm_listwise", "text_cnn", "embedding_mlp", "multimodal"]


@pytest.mark.parametrize("make", ALL, ids=IDS)
def test_two_fits_are_equal_and_leave_random_state_alone(make: Callable[[], Neural], shop: RankingData) -> None:
    data = RankingData(shop.items, {"train": shop.lists["train"], "valid": shop.lists["test"][:10]})
    schedule = Schedule(batch=8, steps=12, trial=4, every=4, least=1)
    torch.manual_seed(5)
    before, told, scores = torch.get_rng_state(), [], []
    for seed in (0, 0, 1):
        system = replace(make(), seed=seed, schedule=schedule)
        system.fit(data, told.append)
        assert torch.equal(torch.get_rng_state(), before)
        scores.append(np.concatenate(system.scores(data, shop.lists["test"])))
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert len(told) >= 3 * 3 * 4
    assert set(told) <= set(range(1, 9))


@pytest.mark.parametrize("make", ALL, ids=IDS)
def test_new_shoppers_new_items_and_empty_histories_get_finite_scores(
    make: Callable[[], Neural], shop: RankingData
) -> None:
    data = RankingData(shop.items, {"train": shop.lists["train"], "valid": shop.lists["test"][:10]})
    system = replace(make(), schedule=Schedule(batch=8, steps=4, every=4), search=SEARCH)
    system.fit(data)
    items = shop.items | {"new": Item(item_id="new", title="!?", price=1e12, brand="Unheard", category=("Never",))}
    known = shop.lists["train"][0]
    lists = [
        RankingList(list_id="a", user_id="nobody", candidates=("new",)),
        RankingList(list_id="b", user_id="nobody", query="unheard of", candidates=("new", "i1", "i2")),
        known.model_copy(
            update={"labels": None, "history": (*known.history, Event(kind=EventKind.SEARCH, query="red mug"))}
        ),
    ]
    scores = system.scores(RankingData(items), lists)
    assert [s.shape for s in scores] == [(1,), (3,), (12,)]
    assert all(s.dtype == np.float64 and np.isfinite(s).all() for s in scores)
    # Neither what stands beside a list in its batch nor labels change its scores.
    alone = system.scores(RankingData(items), lists[1:2])
    labelled = system.scores(RankingData(items), [lists[1].model_copy(update={"labels": (0, 3, 1)})])
    assert np.allclose(alone[0], scores[1], atol=1e-5)
    assert np.array_equal(alone[0], labelled[0])
    assert system.scores(RankingData(items), []) == []

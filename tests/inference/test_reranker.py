"""Reranker: orders, ties, what may be given and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reshelf.data.schema import Event, Item, RankingList
from reshelf.errors import InputError
from reshelf.inference.engines.engine import choose_engine
from reshelf.inference.reranker import RankedList, Reranker
from reshelf.prompts.list_prompt import ListPrompt


@pytest.fixture(scope="module")
def reranker(reranker_folder: Path, catalogue: dict[str, Item]) -> Iterator[Reranker]:
    with Reranker.from_pretrained(reranker_folder, "transformers", catalogue, device="cpu") as made:
        yield made


def ask(reranker: Reranker, ranking: RankingList, **changes: Any) -> RankedList:
    arguments: dict[str, Any] = {
        "query": ranking.query,
        "candidates": ranking.candidates,
        "history": ranking.history,
        "scores": ranking.scores,
        "time": ranking.time,
        "context": ranking.context,
    }
    return reranker.rerank(**arguments | changes)


def test_sorts_by_the_engines_raw_scores(reranker: Reranker, lists: list[RankingList]) -> None:
    for ranking, values in zip(lists, reranker.score_lists(lists), strict=True):
        ranked = ask(reranker, ranking)
        assert [entry.score for entry in ranked] == pytest.approx(sorted(values.tolist(), reverse=True), abs=1e-5)
        assert [entry.rank for entry in ranked] == list(range(1, len(values) + 1))
        for entry in ranked:
            assert ranking.candidates[entry.first_stage_rank - 1] == entry.item.item_id
            assert values[entry.first_stage_rank - 1] == pytest.approx(entry.score, abs=1e-5)
            assert entry.probability == pytest.approx(1 / (1 + np.exp(0.3 - 0.8 * entry.score)))
    assert ranked.item_ids == tuple(entry.item.item_id for entry in ranked)


def test_without_calibration_there_is_no_probability(
    reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    spec = replace(reranker.spec, calibration=None)
    bare = Reranker(reranker.engine, reranker._tokenizer, spec, catalogue)
    ranked, same = ask(bare, lists[0]), ask(reranker, lists[0])
    assert {entry.probability for entry in ranked} == {None}
    assert ranked.item_ids == same.item_ids


def test_says_what_was_truncated(reranker: Reranker, lists: list[RankingList]) -> None:
    ranked = ask(reranker, lists[1])
    assert ranked.truncated.events > 0
    assert ranked.truncated.item_tokens > 0
    assert ask(reranker, lists[3]).truncated.events == 0


def test_items_may_be_ids_dicts_or_items(
    reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    by_id = ask(reranker, lists[5])
    dicts = [catalogue[i].model_dump() for i in lists[5].candidates]
    events = [event.model_dump(mode="json", exclude_none=True) for event in lists[5].history]
    named = [catalogue[event.item_id] for event in lists[5].history if event.item_id]
    assert ask(reranker, lists[5], candidates=dicts, history=events) == by_id
    without_catalogue = Reranker(reranker.engine, reranker._tokenizer, reranker.spec)
    assert ask(without_catalogue, lists[5], candidates=dicts, history=events, history_items=named) == by_id
    with pytest.raises(InputError, match="field history: item 'p"):
        ask(without_catalogue, lists[5], candidates=dicts)


def test_an_item_in_the_request_wins_over_the_catalogues(
    reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    ids = lists[0].candidates
    before = ask(reranker, lists[0])
    changed = catalogue[ids[0]].model_copy(update={"title": "steel bottle for trail and rain", "price": 1.0})
    after = ask(reranker, lists[0], candidates=[changed, *ids[1:]])
    scores = [{entry.item.item_id: entry.score for entry in ranked} for ranked in (before, after)]
    assert abs(scores[0][ids[0]] - scores[1][ids[0]]) > 1e-3
    for other in ids[1:]:
        assert scores[0][other] == pytest.approx(scores[1][other], abs=1e-5)
    assert ask(reranker, lists[0]) == before


def test_fields_that_can_be_read_once_are_not_lost(reranker: Reranker, lists: list[RankingList]) -> None:
    path = ("Outdoor", "Shoes")
    item = {"item_id": "new", "title": "trail shoe", "category": (level for level in path)}
    (entry,) = ask(reranker, lists[2], candidates=[item])
    assert entry.item.category == path


def test_an_item_that_takes_anothers_place_in_the_catalogue_is_read(
    reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    held = dict(catalogue)
    own = Reranker(reranker.engine, reranker._tokenizer, reranker.spec, held)
    before = ask(own, lists[0])
    clicked = next(event.item_id for event in lists[0].history if event.item_id)
    for item_id in (lists[0].candidates[0], clicked):
        held[item_id] = held[item_id].model_copy(update={"title": "steel bottle for trail and rain", "price": 1.0})
    found, expected = (
        {entry.item.item_id: entry.score for entry in ask(one, lists[0])}
        for one in (own, Reranker(reranker.engine, reranker._tokenizer, reranker.spec, held))
    )
    assert found == pytest.approx(expected, abs=1e-5)
    assert found != pytest.approx({entry.item.item_id: entry.score for entry in before}, abs=1e-3)
    del held[lists[0].candidates[1]]
    with pytest.raises(InputError, match="is not in the catalogue"):
        ask(own, lists[0])


class Equal:
    """An engine by which all candidates are equal but one."""

    name = "equal"

    def score(self, prompts: list[ListPrompt]) -> list[np.ndarray]:
        return [np.where(np.arange(len(p.items)) == 2, self.third, 0).astype(np.float32) for p in prompts]

    def close(self) -> None:
        self.closed = True

    def __init__(self, third: float) -> None:
        self.third = third
        self.closed = False


def test_ties_keep_first_stage_order_and_close_reaches_the_engine(reranker: Reranker, lists: list[RankingList]) -> None:
    engine = Equal(1.0)
    with Reranker(engine, reranker._tokenizer, reranker.spec, reranker.catalogue) as equal:
        ranked = ask(equal, lists[0])
    assert [entry.first_stage_rank for entry in ranked] == [3, 1, 2, *range(4, 13)]
    assert engine.closed


def test_a_score_that_is_no_number_is_a_failure(reranker: Reranker, lists: list[RankingList]) -> None:
    broken = Reranker(Equal(float("nan")), reranker._tokenizer, reranker.spec, reranker.catalogue)
    with pytest.raises(RuntimeError, match=r"list request: .*not a number"):
        ask(broken, lists[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": []}, "request, field candidates"),
        ({"candidates": ["p1", "p1"]}, "item 'p1' is there twice"),
        ({"candidates": ["nope"], "scores": [1.0]}, "field candidates: item 'nope' is not in the catalogue"),
        ({"candidates": [{"item_id": "x"}]}, r"candidates\[0\], field title"),
        ({"candidates": ["p1"], "scores": [float("nan")]}, "field scores.0: value is NaN"),
        ({"candidates": ["p1"]}, "scores: 12 values for 1 candidates"),
        ({"candidates": {"p1", "p2"}}, "candidates: a set is no list; give one, in order"),
        ({"scores": {"101": 0.5, "102": 0.1}}, "scores: a dict is no list"),
        ({"features": {"popularity": {"101": 3.0}}}, r"features\.popularity: a dict is no list"),
        ({"candidates": pd.DataFrame({"item_id": ["p1"]})}, "candidates: a DataFrame is no list"),
        ({"features": pd.DataFrame({"popularity": [3.0, 1.0]})}, "features: a DataFrame is no dict; give one, with"),
        ({"context": pd.Series({"device": "mobile"})}, "context: a Series is no dict"),
        ({"scores": None}, "field scores: missing, and the model reads it; send one value per candidate"),
        ({"history": [{"kind": "glance", "item_id": "p1"}]}, r"history\[0\], field kind"),
        ({"history": [{"kind": "click", "item_id": "nope"}]}, "field history: item 'nope' is not in the catalogue"),
        (
            {"history": [Event(kind="click", item_id="p1", time=datetime(2027, 1, 1, tzinfo=UTC))]},
            "event 0 at 2027-01-01T00:00:00.00:00 is not before",
        ),
    ],
)
def test_mistakes_are_named(
    reranker: Reranker, lists: list[RankingList], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ask(reranker, lists[0], **changes)


def test_missing_numbers_are_imputed_where_that_is_asked_for(reranker: Reranker, lists: list[RankingList]) -> None:
    assert len(ask(reranker, lists[0], scores=None, impute=True)) == len(lists[0].candidates)
    with pytest.raises(InputError, match="list l0, field scores: missing, and the model reads it"):
        reranker.score_lists([lists[0].model_copy(update={"scores": None})])


def test_other_catalogues_do_not_mix(reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]) -> None:
    other = {i: item.model_copy(update={"title": "green lamp"}) for i, item in catalogue.items()}
    own, theirs, again = (reranker.score_lists(lists[:1], items)[0] for items in (None, other, catalogue))
    assert np.abs(own - theirs).max() > 1e-3
    np.testing.assert_array_equal(own, again)


@pytest.mark.parametrize("name", ["runs/nowhere/model", "/nowhere", "./nowhere", "nowhere"])
def test_no_such_model(name: str) -> None:
    with pytest.raises(InputError, match="is not there"):
        Reranker.from_pretrained(name)


def test_a_hub_id_that_cannot_be_had() -> None:
    with pytest.raises(InputError, match=r"is no folder here, and .* Hub: HF_HUB_OFFLINE is set"):
        Reranker.from_pretrained("nobody/has-this-reranker")


def test_engine_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(there: bool) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)

    for vllm, gpu, expected in ((True, True, "vllm"), (True, False, "transformers"), (False, True, "transformers")):
        installed(vllm)
        monkeypatch.setattr("torch.cuda.is_available", lambda gpu=gpu: gpu)
        assert choose_engine("auto") == expected
        assert choose_engine("transformers") == "transformers"
    with pytest.raises(InputError, match="engine vllm is not installed"):
        choose_engine("vllm")
    installed(True)
    assert choose_engine("vllm") == "vllm"


def test_a_query_over_its_budget_is_cut_and_counted(reranker: Reranker, lists: list[RankingList]) -> None:
    long, short = (ask(reranker, lists[0], query="word " * words) for words in (2000, 1000))
    assert 0 < short.truncated.query_tokens < long.truncated.query_tokens
    assert [entry.score for entry in long.entries] == pytest.approx([entry.score for entry in short.entries], abs=1e-4)


@pytest.mark.parametrize("given", ["runs/shop/data", Path("runs/shop/data"), [Item(item_id="1", title="Mug")]])
def test_a_catalogue_that_holds_no_items_by_id_is_refused_at_once(reranker_folder: Path, given: Any) -> None:
    with pytest.raises(InputError, match=f"catalogue: a {type(given).__name__} holds no items by id; give load_"):
        Reranker.from_pretrained(reranker_folder, "transformers", given, device="cpu")

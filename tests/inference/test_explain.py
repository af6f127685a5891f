"""Explanations: every change is what a list scored without that one thing says."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reshelf.cli import main
from reshelf.data.schema import Event, Item, RankingList
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.explain import EXPLAINED
from reshelf.inference.explanation import Explanation, Reason
from reshelf.inference.rerank_command import show_explanation
from reshelf.inference.reranker import RankedItem, RankedList, Reranker
from reshelf.modeling.checkpoint import load_reranker


@pytest.fixture(scope="module", params=["independent", "joint"])
def reranker(request: pytest.FixtureRequest, reranker_folder: Path, catalogue: dict[str, Item]) -> Iterator[Reranker]:
    trained = load_reranker(reranker_folder, "cpu")
    engine = TransformersEngine(trained.model)
    with Reranker(engine, trained.tokenizer, replace(trained.spec, candidates=request.param), catalogue) as made:
        yield made


def ask(reranker: Reranker, ranking: RankingList, **changes: Any) -> RankedList:
    arguments: dict[str, Any] = {
        "query": ranking.query, "candidates": ranking.candidates, "history": ranking.history,
        "scores": ranking.scores, "time": ranking.time, "context": ranking.context,
    }  # fmt: skip
    return reranker.rerank(**arguments | changes)


def explained(ranked: RankedList) -> list[tuple[RankedItem, Explanation]]:
    found = [(entry, entry.explanation) for entry in ranked if entry.explanation is not None]
    assert [entry.rank for entry, _ in found] == list(range(1, min(EXPLAINED, len(ranked)) + 1))
    return found


def by_id(ranked: RankedList) -> dict[str, RankedItem]:
    return {entry.item.item_id: entry for entry in ranked}


def lift(before: RankedList, after: RankedList, item_id: str) -> float:
    """How much more above the list's mean an item is."""

    def above(ranked: RankedList) -> float:
        return by_id(ranked)[item_id].score - float(np.mean([entry.score for entry in ranked]))

    return above(before) - above(after)


def test_an_events_change_is_that_of_the_list_without_it(reranker: Reranker, lists: list[RankingList]) -> None:
    ranking = lists[0]
    ranked = ask(reranker, ranking, explain=True)
    for n in range(len(ranking.history)):
        less = ask(reranker, ranking, history=[*ranking.history[:n], *ranking.history[n + 1 :]])
        for entry, explanation in explained(ranked):
            reason = next(r for r in explanation.reasons if r.event == n)
            assert reason.kind == "event"
            assert reason.change == pytest.approx(lift(ranked, less, entry.item.item_id), abs=1e-4)
            assert reason.ranks_gained == by_id(less)[entry.item.item_id].rank - entry.rank


def test_the_querys_change_is_that_of_the_list_without_it(reranker: Reranker, lists: list[RankingList]) -> None:
    ranked, less = ask(reranker, lists[0], explain=True), ask(reranker, lists[0], query="")
    for entry, explanation in explained(ranked):
        reason = next(r for r in explanation.reasons if r.kind == "query")
        assert reason.change == pytest.approx(lift(ranked, less, entry.item.item_id), abs=1e-4)


def test_a_fields_change_is_that_of_the_product_without_it(
    reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    ranking = lists[0]
    ranked = ask(reranker, ranking, explain=True)
    seen = set()
    for field in ("brand", "price", "description"):
        for entry, explanation in explained(ranked):
            item = entry.item
            reasons = [r for r in explanation.reasons if r.kind == "field" and r.name.startswith(f"{field} ")]
            assert len(reasons) == (getattr(item, field) is not None)
            if reasons:
                less = item.model_copy(update={field: None, "currency": None if field == "price" else item.currency})
                candidates = [less if one == item.item_id else one for one in ranking.candidates]
                after = by_id(ask(reranker, ranking, candidates=candidates))[item.item_id]
                assert reasons[0].change == pytest.approx(entry.score - after.score, abs=1e-4)
                if reranker.spec.candidates == "independent":
                    assert reasons[0].ranks_gained == after.rank - entry.rank
                seen.add(field)
    assert seen == {"brand", "price", "description"}


def test_a_numbers_change_is_that_of_the_middle_one(reranker: Reranker, lists: list[RankingList]) -> None:
    ranking = lists[0]
    assert ranking.scores is not None
    ranked = ask(reranker, ranking, explain=True)
    for entry, explanation in explained(ranked):
        k = entry.first_stage_rank - 1
        scores = [*ranking.scores[:k], 0.4, *ranking.scores[k + 1 :]]  # the model's levels end at 0.1, 0.4 and 0.8
        after = by_id(ask(reranker, ranking, scores=scores))[entry.item.item_id]
        reason = next(r for r in explanation.reasons if r.kind == "feature")
        assert reason.name == "first stage"
        assert reason.change == pytest.approx(entry.score - after.score, abs=1e-4)


def test_a_number_is_left_out_as_missing_where_the_model_knows_that(
    reranker: Reranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    levels = replace(reranker.spec.levels, missing=True)
    knows = Reranker(reranker.engine, reranker._tokenizer, replace(reranker.spec, levels=levels), catalogue)
    ranking = lists[0]
    assert ranking.scores is not None
    ranked = ask(knows, ranking, explain=True)
    for entry, explanation in explained(ranked):
        k = entry.first_stage_rank - 1
        less = ranking.model_copy(update={"scores": (*ranking.scores[:k], float("nan"), *ranking.scores[k + 1 :])})
        reason = next(r for r in explanation.reasons if r.kind == "feature")
        assert reason.change == pytest.approx(entry.score - knows.score_lists([less])[0][k], abs=1e-4)


def test_the_contrast_is_above_without_that_event(reranker: Reranker, lists: list[RankingList]) -> None:
    found = 0
    for ranking in (lists[0], lists[4], lists[5]):
        ranked = ask(reranker, ranking, explain=True)
        for entry, explanation in explained(ranked):
            reasons = [r for r in explanation.reasons if r.kind == "event" and r.change > 0]
            if explanation.contrast is None:
                continue
            found += 1
            reason: Reason = next(r for r in reasons if r.name == explanation.contrast.without)
            assert reason.event is not None
            history = list(ranking.history)
            # What did not fit the prompt stays out of it.
            kept = history[ranked.truncated.events : reason.event] + history[reason.event + 1 :]
            less = by_id(ask(reranker, ranking, history=kept))
            other = explanation.contrast.item_id
            assert by_id(ranked)[other].rank == explanation.contrast.rank > entry.rank
            assert less[other].rank < less[entry.item.item_id].rank
            assert f"Without the {reason.name}, " in explanation.text
    assert found


def test_events_that_did_not_fit_are_no_reasons_and_do_not_come_back(
    reranker: Reranker, lists: list[RankingList]
) -> None:
    ranking = lists[1]
    ranked = ask(reranker, ranking, explain=True)
    assert ranked.truncated.events
    events = {r.event for _, explanation in explained(ranked) for r in explanation.reasons if r.kind == "event"}
    assert events == set(range(ranked.truncated.events, len(ranking.history)))


def test_explaining_changes_no_score(reranker: Reranker, lists: list[RankingList]) -> None:
    for ranking in lists:
        plain, told = ask(reranker, ranking), ask(reranker, ranking, explain=True)
        assert told.item_ids == plain.item_ids
        assert [entry.score for entry in told] == pytest.approx([entry.score for entry in plain], abs=1e-5)


def test_a_text_names_the_strongest_for_and_against(reranker: Reranker, lists: list[RankingList]) -> None:
    for entry, explanation in explained(ask(reranker, lists[0], explain=True)):
        changes = [r.change for r in explanation.reasons]
        assert [abs(c) for c in changes] == sorted((abs(c) for c in changes), reverse=True)
        assert explanation.text.startswith(f"Place {entry.rank}, ")
        for word, reason in (
            ("For it: ", next((r for r in explanation.reasons if r.change >= 0.005), None)),
            ("Against it: ", next((r for r in explanation.reasons if r.change <= -0.005), None)),
        ):
            assert (reason is None) == (word not in explanation.text)
            assert reason is None or word + f"{reason.name} ({reason.change:+.2f}" in explanation.text


def test_a_chinese_model_explains_in_chinese(reranker: Reranker) -> None:
    spec = replace(reranker.spec, prompt=replace(reranker.spec.prompt, language="zh"))
    items = [
        Item(item_id=f"商品{n}", title=f"{colour}羊毛外套", brand="北木", price=100.0 + n, category=("服装", "外套"))
        for n, colour in enumerate(["红色", "蓝色", "绿色", "黑色", "白色", "灰色"])
    ]
    events = [Event(kind=kind, item_id="商品1") for kind in ("view", "click", "cart", "purchase")]
    events.append(Event(kind="rating", item_id="商品1", value=5.0))
    ranked = Reranker(reranker.engine, reranker._tokenizer, spec, {item.item_id: item for item in items}).rerank(
        "蓝色外套", candidates=items, history=[*events, Event(kind="search", query="冬天外套")],
        scores=[3.0, 1.0, 0.5, 0.3, 0.2, 0.1], explain=True,
    )  # fmt: skip
    found = [explanation for _, explanation in explained(ranked)]
    names = {reason.name for explanation in found for reason in explanation.reasons}
    assert {"购买 蓝色羊毛外套", "搜索 冬天外套", "查询 蓝色外套", "品牌 北木", "首阶段"} <= names
    assert found[0].text.startswith("第 1 位，")
    assert "加分项：" in "".join(explanation.text for explanation in found)
    assert re.findall("[A-Za-z]{2,}", "".join(names) + "".join(explanation.text for explanation in found)) == []


def test_the_command_prints_words_and_bars(
    reranker_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    values = {
        "query": "blue coat",
        "candidates": [{"item_id": "a", "title": "Blue wool coat", "price": 80}, {"item_id": "b", "title": "Red mug"}],
        "history": [Event(kind="purchase", item_id="c").model_dump(mode="json")],
        "history_items": [{"item_id": "c", "title": "Cotton jacket"}],
        "scores": [2.0, 1.0],
    }
    path = tmp_path / "request.json"
    path.write_text(json.dumps(values))
    command = ["rerank", "--model", str(reranker_folder), "--engine", "transformers", "--request", str(path)]
    assert main([*command, "--explain"]) == 0
    printed = capsys.readouterr().out
    for line in ("Place 1, ", "purchase of Cotton jacket", "query blue coat", "price 80", "title Red mug", "█"):
        assert line in printed
    assert main([*command, "--explain", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert all(one["explanation"]["reasons"] for one in results)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_name_leaves_its_number_whole(width: int) -> None:
    screen = io.StringIO()
    name = "purchase of Kestrel travel headphones in brown leather"
    reasons = [
        Reason(kind="event", name=name, change=-12.345, ranks_gained=0),
        Reason(kind="query", name="query mug", change=0.5, ranks_gained=0),
    ]
    explanation = Explanation(reasons=reasons, text="")
    show_explanation(Item(item_id="a", title="Mug"), explanation, Console(file=screen, width=width))
    assert "-12.35" in screen.getvalue()
    assert "+0.50" in screen.getvalue()

"""What a report says beyond its table, each against counting by hand; and its page."""

from __future__ import annotations

import io
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.evaluation.analysis import main_system
from reshelf.evaluation.beyond_accuracy import top_k_quality
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.evaluation.movement import movement, moves
from reshelf.evaluation.personalization import personalization_curve
from reshelf.evaluation.report_html import page
from reshelf.evaluation.report_markdown import plain
from reshelf.evaluation.run import evaluate
from reshelf.evaluation.slices import slice_rows, slices
from reshelf.evaluation.systems import LEARNED, MODEL_SYSTEMS, NAMES, baseline, choose
from reshelf.evaluation.worst_lists import worst_lists
from reshelf.metrics.bootstrap import resample
from reshelf.metrics.paired import paired


def one(n: int, candidates: str = "abcdef", wanted: str = "a", query: str = "", **more: object) -> RankingList:
    labels = tuple(3 * (c == wanted) for c in candidates)
    return RankingList(
        list_id=f"l{n}", user_id=f"u{n}", query=query, candidates=tuple(candidates), labels=labels, **more
    )


ITEMS = {
    c: Item(item_id=c, title=f"Thing {c}", category=("home", "lamp" if c in "abc" else "mug")) for c in "abcdefghij"
}


def test_p_is_that_of_every_flip_of_every_sign() -> None:
    rng = np.random.default_rng(0)
    mine, other = rng.random(9), rng.random(9) - 0.2
    mine[4] = np.nan  # a list without a value counts nowhere
    known = (mine - other)[~np.isnan(mine)]
    means = [np.mean(known * signs) for signs in product((-1, 1), repeat=len(known))]
    expected = np.mean(np.abs(means) >= abs(known.mean()) - 1e-12)
    found = paired(mine, other, resample(9, 200, 0), 0)
    assert found["p"] == pytest.approx(expected, abs=1e-9)
    assert found["mean"] == pytest.approx(known.mean())
    assert (found["wins"], found["losses"]) == ((known > 0).sum(), (known < 0).sum())
    assert paired(mine, mine, resample(9, 200, 0), 0)["p"] == 1


def test_slices_are_of_all_lists_each_once_and_tell_head_from_tail() -> None:
    lists = [
        one(0, query="red lamp"),
        one(1, wanted="f", query="red lamp for a small table"),
        one(2, "abcdefghij", wanted="none"),
    ]
    popularity = [np.array([9.0, 8, 1, 1, 1, 1]), np.array([9.0, 8, 1, 1, 1, 1]), np.arange(10.0)]
    parts = slices(lists, [*popularity[:2], np.array([9.0, 8, 1, 1, 1, 1, 1, 1, 1, 1])])
    by = {(part.what, part.which): part.rows.tolist() for part in parts}
    assert by == {
        ("query", "no word"): [2],
        ("query", "2–3 words"): [0],
        ("query", "over 3 words"): [1],
        ("wanted product", "head"): [0],
        ("wanted product", "tail"): [1],
    }
    per_list = {"ours": np.array([1.0, 0.5, np.nan]), "theirs": np.array([0.4, 0.5, np.nan])}
    rows = slice_rows(parts, per_list, "ours", 50, 0)
    assert [(row["which"], row["lists"], row["means"]["ours"]) for row in rows] == [
        ("2–3 words", 1, 1.0), ("over 3 words", 1, 0.5), ("head", 1, 1.0), ("tail", 1, 0.5),
    ]  # fmt: skip
    assert rows[0]["ahead"]["theirs"]["mean"] == pytest.approx(0.6)


def test_answers_by_hand() -> None:
    lists = [one(0), one(1, wanted="f")]
    scores = [np.array([5.0, 4, 3, 2, 1, 0]), np.array([5.0, 4, 3, 2, 1, 0])]
    found = top_k_quality(scores, lists, ITEMS, k=2, relevant_from=3)
    assert found["precision"] == 1 / 4
    assert found["recall"] == 1 / 2
    assert found["f1"] == pytest.approx(1 / 3)
    assert found["accuracy"] == 8 / 12
    assert found["coverage"] == 2 / 6
    assert found["diversity"] == 0
    mixed = top_k_quality([np.array([5.0, 0, 0, 4, 0, 0])], lists[:1], ITEMS, k=2, relevant_from=3)
    assert mixed["diversity"] == 1


def test_the_first_places_of_lists_that_were_not_ranked_are_those_of_all_their_orders() -> None:
    lists = [one(0, "abcd", wanted="a"), one(1, "cdef", wanted="c")]
    orders = [np.array(order, dtype=float) for order in permutations(range(4))]
    each = [top_k_quality([mine, other], lists, ITEMS, 2, 3) for mine in orders for other in orders]
    found = top_k_quality([np.zeros(4), np.full(4, 2.5)], lists, ITEMS, 2, 3)
    assert found == {name: pytest.approx(np.mean([every[name] for every in each])) for name in each[0]}


def test_moves_by_hand() -> None:
    before, after = [np.array([3.0, 2, 1]), np.array([1.0, 0])], [np.array([1.0, 2, 3]), np.array([7.0, 6])]
    assert moves(after, before).tolist() == [-2, 0, 2, 0, 0]
    found = movement(after, before, k=1)
    assert found == {"lists_changed": 0.5, "first_changed": 0.5, "replaced": 0.5, "mean_places": 4 / 5}


def test_the_weight_to_begin_with_is_the_smallest_that_is_as_good() -> None:
    lists = [one(n, wanted="f") for n in range(40)]
    truth, first = Truth.of(lists), [-np.arange(6.0)] * 40
    warm = np.arange(40) < 30

    def curve(scores: list[np.ndarray]) -> dict[str, Any]:
        return personalization_curve(scores, first, warm, lambda values: ndcg_per_list(values, truth, 10), 10)

    good = curve([np.array([5.0, 4, 3, 2, 1, 5.5])] * 40)
    rows = {row["weight"]: row for row in good["rows"]}
    assert len(rows) == 11
    assert (rows[0.0]["lists_changed"], rows[0.0]["replaced"], rows[1.0]["lists_changed"]) == (0, 0, 1)
    assert rows[0.0]["ndcg"] == pytest.approx(1 / np.log2(7))
    assert rows[1.0]["ndcg"] == rows[1.0]["warm"] == rows[1.0]["cold"] == 1
    best = min(weight for weight, row in rows.items() if row["ndcg"] == 1)
    assert good["recommended"] == best
    assert curve([-np.array([5.0, 4, 3, 2, 1, 0])[::-1] for _ in range(40)])["recommended"] == 0, (
        "it makes it no better"
    )


def test_lists_that_the_model_does_not_rank_are_in_first_stage_order_below_a_weight_of_1() -> None:
    """What is served there is that order, to a place: only the model alone is worth no more than chance."""
    lists = [one(n, wanted="a") for n in range(8)]
    truth, first = Truth.of(lists), [-np.arange(6.0)] * 8
    found = personalization_curve(
        [np.zeros(6)] * 8, first, np.ones(8, dtype=bool), lambda values: ndcg_per_list(values, truth, 10), 10
    )
    assert [row["ndcg"] for row in found["rows"][:-1]] == [1.0] * 10
    assert found["rows"][-1]["ndcg"] == pytest.approx(np.mean(1 / np.log2(np.arange(2, 8))))


def test_a_gain_within_a_standard_error_moves_nothing() -> None:
    """Of forty lists the model lifts what was wanted in one and lowers it in another, by less."""
    lists = [one(n, wanted="a" if n else "f") for n in range(40)]
    truth, first = Truth.of(lists), [-np.arange(6.0)] * 40
    scores = [np.array([5.0, 4, 3, 2, 1, 5.4]), np.array([4.0, 5, 3, 2, 1, 0]), *first[2:]]
    found = personalization_curve(
        scores, first, np.ones(40, dtype=bool), lambda values: ndcg_per_list(values, truth, 10), 10
    )
    means = {row["weight"]: row["ndcg"] for row in found["rows"]}
    assert max(means, key=lambda weight: means[weight]) == 1.0
    assert found["recommended"] == 0.0


def test_the_worst_list_comes_first_and_good_ones_do_not_come() -> None:
    lists = [one(0), one(1), one(2)]
    scores = [np.arange(6.0), -np.arange(6.0), np.arange(6.0)]
    found = worst_lists(np.array([0.3, 1, 0.1]), np.array([1.0, 1, 1]), scores, lists, ITEMS, 5)
    assert [row["list_id"] for row in found] == ["l2", "l0"]
    assert (found[0]["wanted_place_before"], found[0]["wanted_place_after"]) == (1, 6)
    assert found[0]["reranked"][0] == "Thing f"
    assert not found[0]["unranked"]


def test_a_list_that_got_worst_since_nothing_ranked_it_is_marked() -> None:
    found = worst_lists(np.array([0.3]), np.array([1.0]), [np.zeros(6)], [one(0)], ITEMS, 5)
    assert found[0]["unranked"]


def test_where_no_order_is_better_than_another_what_is_compared_with_is_not_the_random_one() -> None:
    tied = {name: np.ones(3) for name in ("random", "first_stage", "bm25", "best_possible")}
    assert main_system(tied) == "first_stage"
    assert main_system({"random": np.ones(3)}) == "random"


def test_the_page_holds_its_pictures_and_no_sellers_markup(shop: RankingData, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script> | **x** ![](http://evil.example/a.png) `c`\n# head"
    items = {name: item.model_copy(update={"title": bad}) for name, item in shop.items.items()}
    save_dataset_folder(tmp_path / "data", RankingData(items, shop.lists))
    config = EvaluateConfig(
        tmp_path / "data", tmp_path / "out", resamples=50, systems=["random", "first_stage", "bm25"]
    )
    report = evaluate(config, Console(file=io.StringIO(), width=80))
    assert report["main"] == "first_stage" or report["worst"]
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count('src="data:image/svg+xml;base64,') == 3
    assert "<script" not in text
    assert "evil.example" not in text or 'src="http' not in text
    made = page(f"# t\n\n- {plain(bad)}\n", tmp_path)
    assert made.count("<h1>") == 1
    assert "&lt;script&gt;" in made
    assert "<img" not in made


def test_all_is_all_that_the_data_allows_and_the_report_says_what_they_chose(shop: RankingData, tmp_path: Path) -> None:
    lists = {split: shop.lists["train" if split == "valid" else split] for split in ("train", "valid", "test")}
    save_dataset_folder(tmp_path / "data", RankingData(shop.items, lists))
    config = EvaluateConfig(tmp_path / "data", tmp_path / "out", resamples=50, systems="all")
    names, left_out = choose(config, lists["test"])
    assert set(names) == {"random", "first_stage", "bm25", "popularity", "best_possible", *LEARNED}
    assert set(left_out) == {"base", "without_history", "finetuned"}
    (tmp_path / "data" / "valid.parquet").unlink()
    assert choose(config, lists["test"])[1]["lambdamart"] == "there is no valid.parquet to learn from"
    save_dataset_folder(tmp_path / "data", RankingData(shop.items, lists))
    config.systems = ["item_cf", "lambdamart"]
    report = evaluate(config, Console(file=io.StringIO(), width=80))
    assert set(report["chosen_settings"]) == set(report["systems"]) == {"item_cf", "lambdamart"}
    assert "- lambdamart chose objective" in (config.out / "report.md").read_text()


def test_a_library_that_is_not_there_leaves_its_system_out(
    shop: RankingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {split: shop.lists["train" if split == "valid" else split] for split in ("train", "valid", "test")}
    save_dataset_folder(tmp_path, RankingData(shop.items, lists))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "lightgbm" else name)
    config = EvaluateConfig(tmp_path, tmp_path / "out", systems="all")
    names, left_out = choose(config, lists["test"])
    assert "lambdamart" not in names
    assert "matrix_factorisation" in names
    assert "pip install reshelf[baselines]" in left_out["lambdamart"]
    config.systems = ["lambdamart"]
    with pytest.raises(InputError, match="lightgbm is not installed"):
        choose(config, lists["test"])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MODEL_SYSTEMS])
def test_every_name_is_a_system_that_can_order(name: str, tmp_path: Path) -> None:
    assert hasattr(baseline(name, 0, tmp_path), "fit") == (name in LEARNED)

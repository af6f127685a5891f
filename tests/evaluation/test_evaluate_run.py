"""`evaluate` from a data set folder to its report: the numbers, the files, and what it refuses before it starts."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.propensity.file import write_propensities
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.counterfactual import snips_dcg
from reshelf.evaluation.run import check_scores, evaluate, sample
from reshelf.metrics.ndcg import ndcg

WITHOUT_MODEL = ["random", "first_stage", "bm25", "popularity", "best_possible"]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def edited(shop: RankingData, folder: Path, **fields: object) -> Path:
    """The shop on disk with fields of its test lists replaced."""
    test = [one.model_copy(update=fields) for one in shop.lists["test"]]
    save_dataset_folder(folder, RankingData(shop.items, {**shop.lists, "test": test}))
    return folder


def test_report_has_the_agreed_form_and_is_what_is_returned(shop_folder: Path, tmp_path: Path) -> None:
    console = quiet()
    config = EvaluateConfig(data=shop_folder, out=tmp_path / "deep" / "out", resamples=100)
    report = evaluate(config, console)
    assert json.loads((config.out / "report.json").read_text()) == report
    assert sorted(os.listdir(config.out)) == [
        "moves.svg", "report.html", "report.json", "report.md", "report.svg", "slices.svg",
    ]  # fmt: skip
    assert list(report["systems"]) == WITHOUT_MODEL
    assert report["seconds"] > 0
    assert report["n_lists"] == 40
    assert report["gains"] == "utility"
    for name, means in report["systems"].items():
        assert set(means) == {"ndcg@10", "label_ndcg@10", "mrr", "recall@10", "auc", "uauc"}
        for metric, (low, high) in report["intervals"][name].items():
            assert 0 <= low <= means[metric] <= high <= 1
    assert set(report["left_out"]) == {"base", "without_history", "finetuned"}
    shown = console.file.getvalue()
    for name, means in report["systems"].items():
        assert f"{means['ndcg@10']:.3f}" in next(line for line in shown.splitlines() if name in line)
    # At 80 columns nothing is cut: an ellipsis is there only between the two bounds of a difference.
    assert [line for line in shown.splitlines() if "… " in line or line.endswith("…")] == []


def test_numbers_are_those_of_the_lists(shop: RankingData, shop_folder: Path, tmp_path: Path) -> None:
    report = evaluate(EvaluateConfig(data=shop_folder, out=tmp_path, resamples=50, k=5), quiet())
    by_hand = [ndcg(-np.arange(12.0), one.utility, 5) for one in shop.lists["test"]]
    assert report["systems"]["first_stage"]["ndcg@5"] == pytest.approx(np.mean(by_hand))
    assert report["systems"]["best_possible"]["ndcg@5"] == pytest.approx(1, abs=1e-6)
    first, random = (report["systems"][name]["ndcg@5"] for name in ("first_stage", "random"))
    assert report["gap_closed"]["random"] == pytest.approx((random - first) / (1 - first), abs=1e-5)
    difference = report["difference_to_first_stage"]["random"]["ndcg@5"]
    assert difference["mean"] == pytest.approx(random - first)
    assert difference["low"] < difference["mean"] < difference["high"] < 0
    assert "first_stage" not in report["difference_to_first_stage"]


def test_same_seed_same_report_and_another_seed_another_random_order(shop_folder: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(data=shop_folder, out=tmp_path, resamples=50, limit=20)
    a, b = (evaluate(config, quiet()) for _ in range(2))
    c = evaluate(replace(config, seed=1), quiet())
    for name in ("systems", "intervals", "difference_to_first_stage"):
        assert a[name] == b[name]
    assert a["systems"]["random"] != c["systems"]["random"]
    assert a["n_lists"] == 20


def test_with_propensities_labels_are_weighted_by_how_rarely_their_position_is_examined(
    shop: RankingData, tmp_path: Path
) -> None:
    examined = 1 / np.arange(1.0, 13.0)
    write_propensities(tmp_path / "propensities.json", examined)
    folder = edited(shop, tmp_path / "data", positions=tuple(range(1, 13)))
    config = EvaluateConfig(
        data=folder, out=tmp_path / "out", resamples=50, propensities=tmp_path / "propensities.json", k=5
    )
    console = quiet()
    found = evaluate(config, console)["counterfactual"]
    assert list(found) == WITHOUT_MODEL
    lists = [one.model_copy(update={"positions": tuple(range(1, 13))}) for one in shop.lists["test"]]
    first, best = (
        snips_dcg(scores, lists, examined, 5).estimate
        for scores in ([-np.arange(12.0)] * 40, [np.array(one.utility) for one in lists])
    )
    assert found["first_stage"]["estimate"][0] == pytest.approx(first)
    assert found["first_stage"]["gain"] == [0, 0, 0]
    assert found["best_possible"]["estimate"][0] == pytest.approx(best)
    mean, low, high = found["best_possible"]["gain"]
    assert low < mean < high
    assert mean == pytest.approx(best - first)
    text = (config.out / "report.md").read_text()
    assert f"| best_possible | {best:.3f} (" in text.partition("## Corrected for examination")[2]
    assert f"best_possible: SNIPS DCG@5 {best:.3f} (" in console.file.getvalue()

    nothing = edited(shop, tmp_path / "nothing", positions=tuple(range(1, 13)), labels=(0,) * 12)
    assert evaluate(replace(config, data=nothing), quiet())["counterfactual"] is None
    with pytest.raises(InputError, match="field positions: missing; counterfactual estimates need both"):
        evaluate(replace(config, data=edited(shop, tmp_path / "unknown")), quiet())
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        evaluate(replace(config, propensities=tmp_path / "none.json"), quiet())


@pytest.mark.parametrize(("field", "fields"), [("labels", {"utility": None}), ("utility", {})])
def test_lists_in_which_nothing_is_wanted_are_refused(
    field: str, fields: dict[str, object], shop: RankingData, tmp_path: Path
) -> None:
    size = len(shop.lists["test"][0].candidates)
    nothing: dict[str, object] = {"labels": (0,) * size, "utility": (0.0,) * size, **fields}
    folder = edited(shop, tmp_path / "data", **nothing)
    with pytest.raises(InputError, match=f"field {field}: no list has a value above 0"):
        evaluate(EvaluateConfig(data=folder, out=tmp_path / "out", resamples=50), quiet())
    assert not (tmp_path / "out").exists()


def test_a_report_says_of_a_split_that_systems_learned_from_what_its_numbers_are(
    shop: RankingData, tmp_path: Path
) -> None:
    save_dataset_folder(
        tmp_path / "data", RankingData(shop.items, dict.fromkeys(("valid", "test"), shop.lists["test"]))
    )
    for split in ("valid", "test"):
        evaluate(EvaluateConfig(data=tmp_path / "data", out=tmp_path / split, split=split, resamples=50), quiet())
    assert "learned from or chose by the lists of split valid" in (tmp_path / "valid" / "report.md").read_text()
    assert "chose by" not in (tmp_path / "test" / "report.md").read_text()


@pytest.mark.parametrize("name", ["a|b", "", "$x$", "[b]"])
def test_a_name_that_tables_and_plots_would_read_as_their_own_is_refused(
    name: str, shop_folder: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(data=shop_folder, out=tmp_path, others={name: tmp_path})
    with pytest.raises(InputError, match="cannot be the name of a row"):
        evaluate(config, quiet())


def test_without_utility_gains_come_from_labels_and_the_best_order_is_not_shown(
    shop: RankingData, tmp_path: Path
) -> None:
    folder = edited(shop, tmp_path / "data", utility=None)
    report = evaluate(EvaluateConfig(data=folder, out=tmp_path / "out", resamples=50), quiet())
    assert report["gains"] == "labels"
    assert "best_possible" not in report["systems"]
    assert report["gap_closed"] == {}
    assert "label_ndcg@10" not in report["systems"]["bm25"]
    no_gain = sum(max(one.labels) == 0 for one in shop.lists["test"])
    assert report["skipped"]["ndcg@10"] == no_gain
    assert "2^label - 1" in (tmp_path / "out" / "report.md").read_text()


def test_lists_that_only_have_utility_can_be_evaluated(shop: RankingData, tmp_path: Path) -> None:
    folder = edited(shop, tmp_path / "data", labels=None)
    report = evaluate(EvaluateConfig(data=folder, out=tmp_path / "out", resamples=50), quiet())
    assert set(report["systems"]["bm25"]) == {"ndcg@10"}


def test_lists_where_nothing_was_wanted_give_no_number_and_valid_json(shop: RankingData, tmp_path: Path) -> None:
    folder = edited(shop, tmp_path / "data", labels=(0,) * 12)
    report = evaluate(EvaluateConfig(data=folder, out=tmp_path / "out", resamples=50), quiet())
    assert report["systems"]["bm25"]["mrr"] is None
    assert report["systems"]["bm25"]["auc"] is None
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_popularity_reads_train_only_where_the_lists_bring_no_popularity(shop: RankingData, tmp_path: Path) -> None:
    test = [one.model_copy(update={"features": {"popularity": tuple(range(12, 0, -1))}}) for one in shop.lists["test"]]
    save_dataset_folder(tmp_path / "a", RankingData(shop.items, {"test": test}))
    save_dataset_folder(tmp_path / "b", RankingData(shop.items, {"test": shop.lists["test"]}))
    with_feature = evaluate(EvaluateConfig(data=tmp_path / "a", out=tmp_path, resamples=50), quiet())["systems"]
    assert with_feature["popularity"] == with_feature["first_stage"]
    without = evaluate(EvaluateConfig(data=tmp_path / "b", out=tmp_path, resamples=50), quiet())
    assert "popularity" not in without["systems"]
    assert "train.parquet" in without["left_out"]["popularity"]


def test_only_the_systems_asked_for(shop_folder: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(data=shop_folder, out=tmp_path, resamples=50, systems=["bm25", "random"])
    report = evaluate(config, quiet())
    assert list(report["systems"]) == ["random", "bm25"]
    assert report["difference_to_first_stage"] == {}
    assert report["left_out"] == {}


def test_sample_is_seeded_keeps_the_order_and_repeats_nothing(shop: RankingData) -> None:
    lists = shop.lists["test"]
    some = sample(lists, 15, seed=3)
    places = [lists.index(one) for one in some]
    assert places == sorted(set(places))
    assert len(places) == 15
    assert some == sample(lists, 15, seed=3) != sample(lists, 15, seed=4)
    assert sample(lists, 99, seed=3) == sample(lists, None, seed=3) == lists


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"k": 0}, "k is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"resamples": 1}, "resamples is 1"),
        ({"split": "holdout"}, "holdout"),
        ({"split": "valid"}, r"valid\.parquet is not there"),
        ({"data": Path("no/such/folder")}, r"items\.parquet is not there"),
        ({"systems": ["alphabet"]}, "'alphabet' is not known"),
        ({"systems": ["finetuned"]}, "finetuned needs a reranker folder"),
        ({"model": Path("no/such/model")}, "is not a reranker folder"),
    ],
)
def test_mistakes_give_one_sentence_and_no_file(
    change: dict[str, object], sentence: str, shop_folder: Path, tmp_path: Path
) -> None:
    right = EvaluateConfig(data=shop_folder, out=tmp_path / "out")
    with pytest.raises(InputError, match=sentence) as error:
        evaluate(replace(right, **change), quiet())
    assert "\n" not in str(error.value)
    assert list(tmp_path.rglob("*report*")) == []


def test_an_output_folder_that_cannot_be_written_to_is_found_before_scoring(shop_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    console = quiet()
    with pytest.raises(InputError, match="choose another output folder"):
        evaluate(EvaluateConfig(data=shop_folder, out=tmp_path / "file" / "out"), console)
    assert console.file.getvalue() == ""


def test_a_system_named_but_impossible_is_refused(shop: RankingData, tmp_path: Path) -> None:
    folder = edited(shop, tmp_path / "data", utility=None)
    config = EvaluateConfig(data=folder, out=tmp_path / "out", systems=["best_possible"])
    with pytest.raises(InputError, match="best_possible is not possible here: the lists have no true utility"):
        evaluate(config, quiet())


@pytest.mark.parametrize("field", ["labels", "utility"])
def test_truth_that_some_lists_lack_is_refused_with_the_list_and_the_field(
    field: str, shop: RankingData, tmp_path: Path
) -> None:
    test: list[RankingList] = list(shop.lists["test"])
    test[7] = test[7].model_copy(update={field: None})
    save_dataset_folder(tmp_path / "data", RankingData(shop.items, {"train": [], "test": test}))
    with pytest.raises(InputError, match=f"'test7', field {field}"):
        evaluate(EvaluateConfig(data=tmp_path / "data", out=tmp_path / "out"), quiet())


def test_nothing_to_measure_against_or_nothing_to_measure_is_refused(shop: RankingData, tmp_path: Path) -> None:
    folder = edited(shop, tmp_path / "bare", labels=None, utility=None)
    with pytest.raises(InputError, match="nothing to measure against"):
        evaluate(EvaluateConfig(data=folder, out=tmp_path / "out"), quiet())
    save_dataset_folder(tmp_path / "empty", RankingData(shop.items, {"train": shop.lists["train"], "test": []}))
    with pytest.raises(InputError, match=r"test\.parquet has no lists"):
        evaluate(EvaluateConfig(data=tmp_path / "empty", out=tmp_path / "out"), quiet())


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [([], "0 lists of 1"), ([np.zeros(3)], "3 scores"), ([np.full(12, np.nan)], "NaN or infinite in list 'test0'")],
)
def test_a_system_that_answers_nonsense_stops_the_evaluation(
    scores: list[np.ndarray], sentence: str, shop: RankingData
) -> None:
    with pytest.raises(RuntimeError, match=sentence):
        check_scores("odd", shop.lists["test"][:1], scores)


def test_an_older_report_survives_an_evaluation_that_fails(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluateConfig(data=shop_folder, out=tmp_path, resamples=50)
    evaluate(config, quiet())
    before = (tmp_path / "report.json").read_text()
    monkeypatch.setattr("reshelf.evaluation.report.markdown", lambda report: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        evaluate(replace(config, seed=5), quiet())
    assert (tmp_path / "report.json").read_text() == before
    assert [name for name in os.listdir(tmp_path) if name.endswith("partial")] == []

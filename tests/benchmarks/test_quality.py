"""Quality tables: every recipe loads, the page is what the results say, and a recipe runs on another shop's data."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks import quality
from benchmarks.match_features import FEATURES, with_match_features
from benchmarks.quality_page import PAGE, README, ahead_of_all, read_results, readme_table, render
from benchmarks.quality_recipe import REAL, SMALL, MarketplaceRecipe, Recipe
from benchmarks.quality_slices import other_histories, paired_by_slice
from benchmarks.quality_systems import Made
from benchmarks.quality_tables import differences, rmse, table
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.mapping_file import load_mapping
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.schema import Event, RankingList
from reshelf.data.signals import PERSONAL
from reshelf.errors import InputError
from reshelf.evaluation.baselines.numbers import TEACHER
from reshelf.metrics.bootstrap import resample

NAMES = sorted(path.stem for path in quality.RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_and_keeps_to_its_own_folder(name: str) -> None:
    path, run = quality.RECIPES / f"{name}.yaml", f"runs/quality/{name}"
    if name == "marketplace":
        assert str(load_yaml(MarketplaceRecipe, path).model.out).startswith(run)
        return
    recipe = load_yaml(Recipe, path)
    load_mapping(recipe.mapping, recipe.changes)
    assert str(recipe.base.data) == f"{run}/data"
    assert str(recipe.base.out) == f"{run}/base"
    for row, config in recipe.rerankers.items():
        assert str(config.data) == f"{run}/data"
        assert str(config.out) == f"{run}/{row}"
        read, prompt = recipe.base.prompt, config.prompt
        assert (TEACHER in prompt.features) == (row == "reshelf_with_teacher_score")
        assert {name for name in prompt.features if name != TEACHER} <= set(read.features)
        if row != REAL:  # the small base has read prompts like these, not of another shape
            assert [name for name in prompt.features if name != TEACHER] == read.features
            assert replace(read, features=[], history_tokens=96) == replace(prompt, features=[], history_tokens=96)
            assert prompt.history_tokens <= read.history_tokens
            assert config.model.base == str(recipe.base.out)
    assert next(iter(recipe.rerankers)) == SMALL


def test_the_page_is_made_from_the_result_files() -> None:
    """Where this fails: python -m benchmarks.quality_page."""
    results = read_results()
    assert PAGE.read_text(encoding="utf-8") == render(results)
    assert readme_table(results) + "\n\n" in README.read_text(encoding="utf-8")


def test_bold_asks_for_more_than_the_paired_interval_over_every_other_system() -> None:
    paired = {"lambdamart": {"ndcg@10": [0.02, 0.01, 0.03]}, "teacher": {"ndcg@10": [0.01, -0.001, 0.02]}}
    assert not ahead_of_all({"paired": {"reshelf": paired}}, "reshelf", "ndcg@10")
    assert ahead_of_all({"paired": {"reshelf": {"lambdamart": paired["lambdamart"]}}}, "reshelf", "ndcg@10")
    assert not ahead_of_all({"paired": {"reshelf": paired}}, "lambdamart", "ndcg@10")


def one(n: int, labels: tuple[int, ...]) -> RankingList:
    candidates = tuple(f"i{k}" for k in range(len(labels)))
    return RankingList(list_id=f"l{n}", user_id=f"u{n % 3}", candidates=candidates, labels=labels)


def test_a_table_holds_what_can_be_measured() -> None:
    rng = np.random.default_rng(0)
    lists = [one(n, (3, 0, 0)) for n in range(30)]
    made = {name: Made({"test": [rng.normal(size=3) for _ in lists]}, {}, 0.0) for name in ("reshelf", "other")}
    rows = table(made, lists, [10, 2])
    assert {"ndcg@10", "ndcg@2", "recall@2", "auc", "uauc"} <= set(rows["reshelf"])
    for mean, low, high in rows["reshelf"].values():
        assert low <= mean <= high
    mean, low, high = differences(made, lists, REAL)["other"]["ndcg@10"]
    assert mean == pytest.approx(rows["reshelf"]["ndcg@10"][0] - rows["other"]["ndcg@10"][0])
    assert low < mean < high
    nobody = [ranking.model_copy(update={"user_id": "u"}) for ranking in lists]
    made = {name: Made(one.scores, {}, 0.0) for name, one in made.items()}
    assert "uauc" not in table(made, nobody, [10])["reshelf"]
    assert set(differences(made, nobody, REAL)["other"]) == {"ndcg@10", "mrr"}
    singles = [one(n, (3 * (n % 2),)) for n in range(30)]
    made = {name: Made({"test": [rng.normal(size=1) for _ in singles]}, {}, 0.0) for name in ("reshelf", "other")}
    assert set(table(made, singles, [10])["reshelf"]) == {"auc", "uauc"}
    assert set(differences(made, singles, REAL)["other"]) == {"uauc"}


def test_slices_and_histories_of_others() -> None:
    rng = np.random.default_rng(3)
    histories = [(), ("a",), ("b",), ("c",) * 6, ("d",) * 6, ()]
    lists = [
        one(n, (3, 0, 0)).model_copy(
            update={"history": tuple(Event(kind="click", item_id=item) for item in items), "user_id": f"u{n}"}
        )
        for n, items in enumerate(histories)
    ]
    moved = other_histories(lists)
    assert [bool(ranking.history) for ranking in moved] == [bool(items) for items in histories]
    for before, after in zip(lists, moved, strict=True):
        assert not before.history or before.history != after.history
    assert sorted(r.history[0].item_id for r in moved if r.history) == ["a", "b", "c", "d"]
    made = {name: Made({"test": [rng.normal(size=3) for _ in lists]}, {}, 0.0) for name in ("reshelf", "other")}
    found = paired_by_slice(made, lists, REAL)
    assert {part: row["other"][3] for part, row in found.items()} == {
        "no history": 2, "1 to 4 events": 2, "5 events or more": 2,
    }  # fmt: skip
    whole = differences(made, lists, REAL)["other"]["ndcg@10"][0]
    assert np.mean([row["other"][0] for row in found.values()]) == pytest.approx(whole)


def test_rmse_by_hand() -> None:
    """Scores that are the truth, stretched, come back as the truth; the resampling is by list."""
    rng = np.random.default_rng(1)
    truth = {split: rng.integers(1, 4, 40).astype(float) for split in ("valid", "test")}
    lists = [one(n, (0, 0, 0, 0)) for n in range(10)]
    scores = {split: np.split(np.exp(values), 10) for split, values in truth.items()}
    data = RankingData({}, {"valid": lists, "test": lists})
    assert rmse(Made(scores, {}, 0.0), truth, data)[0] == pytest.approx(0)
    flat = Made({split: [np.zeros(4)] * 10 for split in truth}, {}, 0.0)
    errors = (truth["test"] - truth["valid"].mean()) ** 2
    mean, low, high = rmse(flat, truth, data)
    assert mean == pytest.approx(np.sqrt(errors.mean()))
    drawn = np.sqrt([np.repeat(errors.reshape(10, 4).mean(1), row).mean() for row in resample(10, 2000, 0)])
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_match_features_know_what_the_shoppers_want() -> None:
    data = simulate(MarketplaceConfig(seed=2, train_lists=40, valid_lists=1, test_lists=1))
    matched = [with_match_features(ranking, data.items) for ranking in data.lists["train"]]
    assert set(matched[0].features) == set(FEATURES)
    gains = []
    for ranking in matched:
        likeness = sum(np.array(ranking.features[name]) for name in ("brand_match", "colour_match", "material_match"))
        gains.append(np.corrcoef(likeness, np.array(ranking.utility))[0, 1] if np.std(likeness) else 0.0)
    assert np.mean(gains) > 0.3


@pytest.fixture
def other_shop(tmp_path: Path) -> Path:
    """In the layout of amazon_beauty: shoppers who stay with one word of the titles."""
    rng = np.random.default_rng(4)
    words = ("rose", "mint", "amber", "cedar")
    folder = tmp_path / "shops" / "amazon_beauty"
    folder.mkdir(parents=True)
    items = {"item_id": list(range(80)), "title": [f"{words[n % 4]} soap {n}" for n in range(80)]}
    items["category"] = [f"Bath > {words[n % 4]}" for n in range(80)]
    pq.write_table(pa.table(items), folder / "items.parquet")
    events: dict[str, list] = {"user_id": [], "item_id": [], "position": [], "split": []}
    lists: dict[str, list] = {"user_id": [], "target_item": [], "candidates": [], "negatives": [], "split": []}
    for user in range(60):
        chosen = 4 * rng.permutation(20)[:7] + user % 4
        for place, item in enumerate(chosen):
            split = "train" if place < 5 else "valid" if place == 5 else "test"
            for name, value in (("user_id", user), ("item_id", item), ("position", place), ("split", split)):
                events[name].append(value)
        for split, target in (("valid", chosen[5]), ("test", chosen[6])):
            others = rng.choice(np.setdiff1d(np.arange(80), chosen), 9, replace=False)
            row = (user, target, rng.permutation([target, *others]).tolist(), "popularity", split)
            for name, value in zip(lists, row, strict=True):
                lists[name].append(value)
    pq.write_table(pa.table(events), folder / "interactions.parquet")
    pq.write_table(pa.table(lists), folder / "rerank_eval.parquet")
    return tmp_path / "shops"


@pytest.mark.slow
def test_a_recipe_runs_on_another_shop_in_the_same_layout(
    other_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.quality_tables.RESULTS", tmp_path)
    recipe, run = load_yaml(Recipe, quality.RECIPES / "beauty_rerank.yaml"), tmp_path / "run"
    recipe.systems = ["first_stage", "popularity", "item_cf", "teacher"]
    recipe.base = replace(recipe.base, out=run / "base", data=run / "data", texts=128)
    recipe.slices = True
    recipe.rerankers = {
        name: replace(
            config, data=run / "data", out=run / name, eval_every=8,
            model=replace(config.model, base=str(run / "base")),
            optimizer=replace(config.optimizer, max_steps=8),
        )
        for name, config in recipe.rerankers.items()
    }  # fmt: skip
    own = {*recipe.rerankers}
    console = Console(file=io.StringIO(), width=120)
    quality.compare(recipe, run, other_shop, console)
    rows = json.loads((tmp_path / "quality_run.json").read_text())
    details = json.loads((tmp_path / "quality_run_details.json").read_text())
    assert own == {SMALL, "reshelf_with_teacher_score"}
    controls = {f"{name}_other_history" for name in own}
    assert set(rows) == {*recipe.systems, *own, *controls, "cold/first_stage", *(f"cold/{name}" for name in own)}
    for name in rows:
        assert len(rows[name]["ndcg@10"]) == 3
    unknown = load_dataset_folder(run / "cold", ["test"]).lists["test"]
    assert not any(one.history for one in unknown)
    assert not any(any(one.features[name]) for one in unknown for name in PERSONAL if name in one.features)
    assert any(any(one.features["popularity"]) for one in unknown)
    assert rows["teacher"]["ndcg@10"][0] > rows["popularity"]["ndcg@10"][0] + 0.1
    for name in own:
        assert details["paired"][name]["popularity"]["ndcg@10"][0] == pytest.approx(
            rows[name]["ndcg@10"][0] - rows["popularity"]["ndcg@10"][0]
        )
    assert details["slices"][SMALL]["5 events or more"][SMALL][3] == 60
    assert SMALL in console.file.getvalue()
    quality.compare(recipe, run, other_shop, console)  # all is there, nothing is trained again
    assert json.loads((tmp_path / "quality_run.json").read_text()) == rows
    with pytest.raises(InputError, match="holds a run over"):
        quality.compare(recipe, run, tmp_path, console)


def test_a_name_that_is_none_is_one_sentence() -> None:
    with pytest.raises(InputError, match="there is no recipe 'beauty'; make quality takes NAME=beauty_rerank, "):
        quality.main(quality.QualityConfig("beauty"))

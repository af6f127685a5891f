"""LambdaMART over a list's numbers, and the teacher that also counts words."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from reshelf.data.atomic import locked_folder
from reshelf.data.dataset_folder import RankingData, load_dataset_folder, save_dataset_folder, write_records
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.evaluation import teacher
from reshelf.evaluation.baselines.lambdamart import LambdaMart, fit_trees, predict
from reshelf.evaluation.baselines.numbers import TEACHER, Numbers
from reshelf.evaluation.baselines.selection import SelectionMetric
from reshelf.evaluation.teacher import TeachConfig, fold, teach, teacher_scores, with_teacher
from reshelf.evaluation.text_numbers import TextNumbers

KILL = """
import os, signal, sys
from pathlib import Path
import numpy as np
from rich.console import Console
from reshelf.evaluation import teacher
teacher.teacher_scores = lambda data, *_: {s: [np.zeros(8)] * len(lists) for s, lists in data.lists.items()}
left = [int(sys.argv[2])]
def killing(rename):
    def then_die(*names, **more):
        rename(*names, **more)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    return then_die
os.rename, os.replace = killing(os.rename), killing(os.replace)
teacher.teach(teacher.TeachConfig(Path(sys.argv[1]), folds=2), Console(quiet=True))
"""
"""Killed once it has renamed so many files and folders."""
BRANDS = ("nord", "halden", "tarn", "solane")


def shop(lists: dict[str, int], single: bool = False) -> RankingData:
    """Each shopper bought one brand and wants it again; a feature tells half of the rest."""
    rng = np.random.default_rng(3)
    items = {f"i{n}": Item(item_id=f"i{n}", title=f"{BRANDS[n % 4]} thing {n}", price=float(n)) for n in range(80)}
    made: dict[str, list[RankingList]] = {}
    for split, count in lists.items():
        made[split] = []
        for n in range(count):
            brand = int(rng.integers(4))
            past = [f"i{4 * int(k) + brand}" for k in rng.choice(20, 3, replace=False)]
            chosen = rng.choice(80, 1 if single else 8, replace=False)
            hint = rng.normal(size=len(chosen))
            wish = 2.0 * (chosen % 4 == brand) + hint
            labels = np.where(wish > (0.7 if single else np.sort(wish)[-2]), 3, 0)
            made[split].append(
                RankingList(
                    list_id=f"{split}{n}",
                    user_id=f"u{split}{n}",
                    history=tuple(Event(kind=EventKind.PURCHASE, item_id=item) for item in past),
                    candidates=tuple(f"i{c}" for c in chosen),
                    labels=tuple(labels.tolist()),
                    features={"hint": tuple(hint.tolist())},
                )
            )
    return RankingData(items, made)


def mean_ndcg(scores: list[np.ndarray], lists: list[RankingList]) -> float:
    return SelectionMetric([one.labels or () for one in lists])(scores)


@pytest.fixture(scope="module")
def data() -> RankingData:
    return shop({"train": 400, "valid": 80, "test": 80})


def test_it_reads_the_numbers_and_is_the_same_twice(data: RankingData) -> None:
    system = LambdaMart()
    system.fit(data)
    test = data.lists["test"]
    scores = system.scores(data, test)
    assert mean_ndcg(scores, test) > mean_ndcg([np.zeros(len(one.candidates)) for one in test], test) + 0.1
    again = LambdaMart()
    again.fit(data)
    assert all(np.array_equal(a, b) for a, b in zip(scores, again.scores(data, test)))
    assert set(system.chosen) == {"objective", "leaves", "trees", "valid"}


def test_lists_of_one_candidate_are_chosen_by_auc_and_learned() -> None:
    """A threshold on one feature, which trees can learn all but perfectly."""
    wanted = shop({"train": 600, "valid": 200, "test": 200}, single=True).lists
    lists = {
        split: [one.model_copy(update={"labels": (3 * (one.features["hint"][0] > 0.7),)}) for one in some]
        for split, some in wanted.items()
    }
    table = Numbers.of(lists["train"], {f"i{n}": Item(item_id=f"i{n}", title="thing") for n in range(80)}).table
    model, chosen = fit_trees(table, lists["train"], lists["valid"], 0)
    expected = {}
    for split in ("valid", "test"):
        scores = np.concatenate(predict(model, table, lists[split]))
        expected[split] = roc_auc_score([(one.labels or ())[0] > 0 for one in lists[split]], scores)
    assert chosen["valid"] == pytest.approx(expected["valid"], abs=1e-12)
    assert min(expected.values()) > 0.99


def test_the_trees_are_those_of_lightgbm(data: RankingData) -> None:
    """Called directly, with groups, grades and gains made here."""
    train, valid = data.lists["train"], data.lists["valid"]
    table = Numbers.of(train, data.items).table
    model, chosen = fit_trees(table, train, valid, 5, {"objective": "lambdarank", "leaves": 7})
    settings = {
        "objective": "lambdarank", "num_leaves": 7, "seed": 5, "learning_rate": 0.06, "min_data_in_leaf": 50,
        "lambda_l2": 5.0, "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1,
        "lambdarank_truncation_level": 20, "label_gain": [0, 1, 3, 7], "deterministic": True, "verbosity": -1,
    }  # fmt: skip
    labels = [label for one in train for label in one.labels or ()]
    direct = lgb.train(
        settings, lgb.Dataset(np.concatenate([table(one) for one in train]), labels, group=[8] * len(train)),
        chosen["trees"],
    )  # fmt: skip
    rows = np.concatenate([table(one) for one in valid])
    np.testing.assert_allclose(np.concatenate(predict(model, table, valid)), direct.predict(rows), atol=1e-12)


def test_a_price_that_no_product_lacked_before_is_not_the_lowest() -> None:
    """The cheap are clicked; then one has no price, which LightGBM by itself would read as 0 (a finding shows it)."""
    rng = np.random.default_rng(0)
    items = {f"i{n}": Item(item_id=f"i{n}", title="thing", price=float(5 + n)) for n in range(80)}
    items["gap"] = Item(item_id="gap", title="thing")

    def listed(list_id: str, chosen: list[int], last: str = "") -> RankingList:
        labels = tuple(3 * (n < 15) for n in chosen) + (0,) * bool(last)
        candidates = (*(f"i{n}" for n in chosen), *([last] if last else []))
        return RankingList(list_id=list_id, user_id=f"u{list_id}", candidates=candidates, labels=labels)

    lists = {
        split: [listed(f"{split}{n}", rng.choice(80, 8, replace=False).tolist()) for n in range(count)]
        for split, count in (("train", 300), ("valid", 60))
    }
    asked = [listed("asked", [0, 40, 79], "gap")]
    table = Numbers.of(lists["train"], items).table
    model, _ = fit_trees(table, lists["train"], lists["valid"], 0)
    low, middle, _, gap = predict(model, table, asked)[0]
    assert gap < 0 < low
    assert gap == pytest.approx(middle, abs=0.02)
    price = Numbers.of(lists["train"], items).names.index("price")
    assert model.instead[price] == np.median([table(one)[:, price] for one in lists["train"]])
    some = [one.model_copy(update={"candidates": (*one.candidates[:-1], "gap")}) for one in lists["train"]]
    assert np.isnan(fit_trees(table, some, lists["valid"], 0)[0].instead[price])  # then the trees have learned of it


def test_a_missing_feature_and_a_teacher_are_told_apart(data: RankingData) -> None:
    train = [with_teacher(one, np.zeros(len(one.candidates))) for one in data.lists["train"]]
    numbers = Numbers.of(train, data.items)
    assert TEACHER not in numbers.names
    assert numbers.table(train[0]).shape == (8, len(numbers.names))
    with pytest.raises(InputError, match=r"features\.hint"):
        numbers.table(train[0].model_copy(update={"features": {}}))


def test_words_tell_the_brand(data: RankingData) -> None:
    texts = TextNumbers(data.items, data.lists["train"])
    one = data.lists["test"][0]
    table = texts.table(one, own=False)
    brand = int((one.history[0].item_id or "")[1:]) % 4
    same = np.array([int(c[1:]) % 4 == brand for c in one.candidates])
    column = 2 + 2 * 3  # after two columns of the title: category, its parent, then the brand's share
    np.testing.assert_array_equal(table[:, column], same)
    assert texts.table(one.model_copy(update={"history": ()}), own=False).shape == table.shape


def test_own_shopper_does_not_count_as_what_follows_what(data: RankingData) -> None:
    """Against counting without the list, of this shopper's only one."""
    for n in range(20):
        one, others = data.lists["train"][n], [*data.lists["train"][:n], *data.lists["train"][n + 1 :]]
        together = TextNumbers(data.items, data.lists["train"]).table(one, own=True)
        apart = TextNumbers(data.items, others).table(one, own=True)
        np.testing.assert_allclose(together, apart, atol=1e-9)


def test_teaching_writes_out_of_fold_scores_that_beat_the_numbers_alone(data: RankingData, tmp_path: Path) -> None:
    save_dataset_folder(tmp_path, data)
    teach(TeachConfig(tmp_path, folds=2), Console(quiet=True))
    taught = load_dataset_folder(tmp_path)
    for split, lists in taught.lists.items():
        scores = [np.array(one.features[TEACHER]) for one in lists]
        hints = [np.array(one.features["hint"]) for one in lists]
        assert mean_ndcg(scores, lists) > mean_ndcg(hints, lists) + 0.05, split


def test_teaching_that_is_cut_short_leaves_the_lists_as_they_were(
    data: RankingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shop"
    save_dataset_folder(folder, data)
    (folder / "signals").mkdir()
    (folder / "signals" / "counts.arrow").write_text("counts")
    before = contents(folder)
    given = {split: [np.zeros(8)] * len(lists) for split, lists in data.lists.items()}
    monkeypatch.setattr(teacher, "teacher_scores", lambda *_: given)
    written = []

    def cut(path: Path, *rest: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write_records(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(teacher, "write_records", cut)
        with pytest.raises(KeyboardInterrupt):
            teach(TeachConfig(folder, folds=2), Console(quiet=True))
    assert contents(folder) == before
    partial = tmp_path / ".shop.partial"
    with locked_folder(partial, "teacher"), pytest.raises(InputError, match="another `reshelf teach`"):
        teach(TeachConfig(folder, folds=2), Console(quiet=True))
    partial.mkdir()
    (partial / "train.parquet").write_text("half")  # of a killed one
    teach(TeachConfig(folder, folds=2), Console(quiet=True))
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {f"{split}.parquet" for split in data.lists}
    assert TEACHER in load_dataset_folder(folder).lists["train"][0].features
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_teaching_that_is_killed_leaves_all_splits_of_one_kind(data: RankingData, tmp_path: Path) -> None:
    folder, n, code = tmp_path / "shop", 0, -signal.SIGKILL
    save_dataset_folder(folder, data)
    kinds = []
    while code == -signal.SIGKILL:
        n += 1
        code = subprocess.run([sys.executable, "-c", KILL, str(folder), str(n)], capture_output=True).returncode
        lists = load_dataset_folder(folder).lists.values()
        (kind,) = {TEACHER in one.features for some in lists for one in some}
        kinds.append(kind)
    assert (code, kinds) == (0, sorted(kinds))
    assert n > len(data.lists), "each rename was the last one once"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fold_is_blind_to_its_shoppers(data: RankingData) -> None:
    """Labels turned round in one fold teach the others the opposite, and their own fold nothing of it."""
    train = data.lists["train"]
    turned = [
        one.model_copy(update={"labels": tuple(3 - y for y in one.labels or ())}) if fold(one, 2) == 0 else one
        for one in train
    ]
    lists = {"train": turned, "valid": data.lists["valid"]}
    scores = teacher_scores(RankingData(data.items, lists), 2, 0, Console(quiet=True))["train"]
    quality = [
        mean_ndcg([s for s, one in zip(scores, train) if fold(one, 2) == n], [o for o in train if fold(o, 2) == n])
        for n in (0, 1)
    ]
    by_chance = mean_ndcg([np.zeros(8)] * len(train), train)
    assert quality[0] > by_chance + 0.1, "taught by fold 1, whose labels are right"
    assert quality[1] < by_chance, "taught by fold 0, whose labels are turned round"


def test_mistakes(data: RankingData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folds"):
        teach(TeachConfig(tmp_path, folds=1))
    save_dataset_folder(tmp_path, RankingData(data.items, {"train": data.lists["train"]}))
    with pytest.raises(InputError, match="valid"):
        teach(TeachConfig(tmp_path))

"""Claim: a reranker that was finetuned with numbers left out at random needs none of them, and loses little by it.

    make bench NAME=feature_dropout        # half an hour of one core
    python -m benchmarks.feature_dropout --dropout 0 0.05 0.1 0.2

A simulated shop, whose lists carry seven numbers per product: the first stage's score, the score of LambdaMART (trained
on other lists of the shop), how often the product was clicked, and four that compare it with the shopper's history and
query. The base that ships is finetuned on it, with `augment.feature_dropout` 0 and with its default. Then numbers are
taken away from test lists: each one, all of some products (new ones, of which nothing was counted yet), and all. The
model that was trained to miss them reads them as missing, the other as medians. nDCG@10 is of true utility: what
shoppers want, not what they clicked.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import show, write_result
from benchmarks.match_features import with_match_features
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.lambdamart import LambdaMart
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.augment import AugmentConfig
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.assembly import with_features
from reshelf.inference.ranking import prepare, score
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample
from reshelf.prompts.levels import FeatureLevels, values_of

READ = ["teacher", "first_stage", "popularity", "brand_match", "category_match", "level_fit", "asked"]
SHARES = (0.1, 0.5, 0.9)
"""Of the products of a list that are new."""
_BASE = Path(__file__).parents[1] / "finetune"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, AugmentConfig().feature_dropout])
    parser.add_argument("--train", type=int, default=1600, help="lists that each model is trained on")
    parser.add_argument("--test", type=int, default=200, help="lists that it is measured on")
    args = parser.parse_args()
    data = shop(args.train, args.test)
    test = data.lists["test"]
    truth = Truth.of(test)
    found: dict[tuple[str, str], np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        save_dataset_folder(Path(name) / "data", data)
        for dropout in args.dropout:
            model = trained(Path(name), dropout)
            with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
                for (without, way), lists in lacking(test, reranker.spec.levels).items():
                    scores = scores_as_they_are(reranker, lists)
                    found[without, f"dropout {dropout:g}, {way}"] = ndcg_per_list(scores, truth, 10)
    report(found, test, args.train)


def report(found: dict[tuple[str, str], np.ndarray], test: Sequence[RankingList], train: int) -> None:
    """Show and write what was found: nDCG@10 of the test lists, by what they lack and by column."""
    first = ndcg_per_list([-np.arange(len(one.candidates)) for one in test], Truth.of(test), 10)
    mean = {key: float(values.mean()) for key, values in found.items()}
    columns = list(dict.fromkeys(column for _, column in found))
    rows: list[dict[str, Any]] = [
        {"without": without} | {column: mean[without, column] for column in columns}
        for without in dict.fromkeys(without for without, _ in found)
    ]
    show("nDCG@10 without numbers", rows)
    ratios = claims(mean, columns[0], columns[-1]) | {"first_stage": float(first.mean())}
    for name in ("dropout_without_all", "no_dropout_without_all"):
        ratios[name] -= ratios["first_stage"]
    lost = found["nothing", columns[0]] - found["nothing", columns[-1]]
    whole = interval(lost, resample(len(test), 2000, seed=0))
    ratios |= {"dropout_cost_low": whole.low, "dropout_cost_high": whole.high}
    Console().print(ratios)
    sizes = {"train lists": train, "test lists": len(test), "candidates": len(test[0].candidates)}
    write_result("feature_dropout", rows, ratios, sizes | {"numbers": len(READ)})


def shop(train: int, test: int) -> RankingData:
    """A simulated shop, whose lists carry `READ`."""
    made = simulate(MarketplaceConfig(seed=5, train_lists=2 * train, valid_lists=200, test_lists=test))
    every = {
        split: [with_match_features(one, made.items).model_copy(update={"scores": one.scores}) for one in lists]
        for split, lists in made.lists.items()
    }
    # What the trees and the counts have seen is not what the reranker learns from.
    seen, every["train"] = every["train"][:train], every["train"][train:]
    clicks: dict[str, int] = {}
    for one in seen:
        for item_id, label in zip(one.candidates, one.labels or (), strict=True):
            clicks[item_id] = clicks.get(item_id, 0) + (label > 0)
    trees = LambdaMart()
    trees.fit(RankingData(made.items, every | {"train": seen}))
    lists = {
        split: [
            one.model_copy(update={"features": one.features | {
                "popularity": tuple(float(np.log1p(clicks.get(i, 0))) for i in one.candidates),
                "teacher": tuple(scores.tolist()),
            }})
            for one, scores in zip(some, trees.scores(made, some), strict=True)
        ]
        for split, some in every.items()
    }  # fmt: skip
    return RankingData(made.items, lists)


def trained(folder: Path, dropout: float) -> Path:
    """A reranker over the base that ships; returns its folder."""
    out = folder / f"model_{dropout:g}"
    run = load_yaml(
        FinetuneConfig, _BASE / "demo.yaml", data=str(folder / "data"), out=str(out),
        **{"model.base": str(_BASE / "bases" / "marketplace"), "model.quantise": False, "prompt.features": READ},
    )  # fmt: skip
    finetune(replace(run, augment=AugmentConfig(feature_dropout=dropout)))
    return out


def lacking(lists: Sequence[RankingList], levels: FeatureLevels) -> dict[tuple[str, str], list[RankingList]]:
    """The lists without some of their numbers, by what is missing and how that is read."""
    rng = np.random.default_rng(0)
    new = {share: [rng.random(len(one.candidates)) < share for one in lists] for share in SHARES}
    every = [np.ones(len(one.candidates), dtype=bool) for one in lists]
    way = "missing" if levels.missing else "imputed"
    leave_out = partial(left_out, levels=levels, imputed=not levels.missing)
    result = {("nothing", way): list(lists)}
    for name in READ:
        result[name, way] = [leave_out(one, [name], rows) for one, rows in zip(lists, every, strict=True)]
    for share, rows in new.items():
        what = f"all numbers of {share:.0%} of the products"
        result[what, way] = [leave_out(one, READ, row) for one, row in zip(lists, rows, strict=True)]
    result["all", way] = [leave_out(one, READ, rows) for one, rows in zip(lists, every, strict=True)]
    return result


def left_out(
    ranking: RankingList, names: Sequence[str], rows: np.ndarray, levels: FeatureLevels, imputed: bool
) -> RankingList:
    """The list without some numbers of the candidates in `rows` (bool [K]), as `inference.assembly` completes it."""
    features = {name: values for name, values in ranking.features.items() if name not in names}
    bare = ranking.model_copy(
        update={"features": features, "scores": None if "first_stage" in names else ranking.scores}
    )
    instead = with_features(bare, levels, impute=True).ranking
    changed: dict[str, tuple[float, ...]] = {}
    for name in names:
        lost = values_of(instead, name) if imputed else np.full(len(rows), np.nan)
        changed[name] = tuple(np.where(rows, lost, values_of(ranking, name)).tolist())
    scores = changed.pop("first_stage", ranking.scores)
    return ranking.model_copy(update={"scores": scores, "features": ranking.features | changed})


def scores_as_they_are(reranker: Reranker, lists: Sequence[RankingList]) -> list[np.ndarray]:
    """Scores, float32 [K] per list. `score_lists` would compute what is missing, and refuse a list of which nearly
    nothing is known."""
    found = []
    for one in lists:
        found += score(reranker.engine, [prepare(reranker._builder, one)])
    return found


def claims(mean: dict[tuple[str, str], float], without: str, dropout: str) -> dict[str, float]:
    """What the page says of the first column and the last: models without dropout and with it."""
    return {
        "dropout_cost": mean["nothing", without] - mean["nothing", dropout],
        "dropout_without_one": max(mean["nothing", dropout] - mean[name, dropout] for name in READ),
        "no_dropout_without_one": max(mean["nothing", without] - mean[name, without] for name in READ),
        "dropout_without_all": mean["all", dropout],
        "no_dropout_without_all": mean["all", without],
    }


if __name__ == "__main__":
    main()

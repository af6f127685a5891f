"""Ranking quality on simulated shops, whose shoppers' true wishes are known; `make quality NAME=marketplace`.

main     the shop as it is: every system, and LambdaMART handed the simulator's own match features
bias/    a shop promotes expensive products, and few shoppers look far down. Trained on its clicks as they are,
         on those clicks weighted by inverse propensities estimated from them, and on clicks of lists shown in
         random order, which have no bias to correct: what bias costs, and how much of it the correction gets back
context/ shoppers to whom a product stands out by what is rare in its list: candidates scored alone, and jointly
cold/    the lists of the shop as it is, by shoppers of whom nothing is known

nDCG is of true utility: what shoppers want, not what they clicked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import kendalltau

from benchmarks.match_features import with_match_features
from benchmarks.quality_recipe import SMALL, MarketplaceRecipe
from benchmarks.quality_systems import Made, baseline_system, no_valid, reranker_system, scored
from benchmarks.quality_tables import OWN, RESAMPLES, differences, show, table, write
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate_folder
from reshelf.data.marketplace.simulation import RANDOMISED_FILE
from reshelf.data.propensity.estimate import PropensityConfig, estimate
from reshelf.evaluation.measure import Truth, measure
from reshelf.finetune.augment import without_history
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.pretrain import pretrain
from reshelf.finetune.run import finetune
from reshelf.metrics.bootstrap import resample
from reshelf.modeling.spec import SPEC_FILE

_ARRIVALS = 3
Part = tuple[dict[str, Made], RankingData, dict[str, Any]]


def compare(recipe: MarketplaceRecipe, run: Path, console: Console) -> None:
    """All four parts, in one table; a part's rows begin with its name."""
    made, data, _ = shop_as_it_is(recipe, run, console)
    result = table(made, data.lists["test"], [10])
    details: dict[str, Any] = {
        "command": "make quality NAME=marketplace",
        "paired": {SMALL: differences(made, data.lists["test"], SMALL)},
        "facts": {name: one.facts for name, one in made.items()},
        "seconds": {name: round(one.seconds, 1) for name, one in made.items()},
        "distance_closed": closed(result),
    }
    for name, part, main in (
        ("bias", with_bias(recipe, run / "bias", console), "corrected"),
        ("context", with_context(recipe, run / "context", console), "joint"),
        ("cold", without_knowledge(run, data), SMALL),
    ):
        found, its_data, facts = part
        result |= {f"{name}/{row}": values for row, values in table(found, its_data.lists["test"], [10]).items()}
        details[name] = {"paired": {main: differences(found, its_data.lists["test"], main)}, **facts}
    write("marketplace", result, details)
    show(result, details, console)
    for name in ("distance_closed", "bias", "context"):
        console.print(name, {key: value for key, value in details[name].items() if key != "paired"}, highlight=False)


def shop_as_it_is(recipe: MarketplaceRecipe, run: Path, console: Console) -> Part:
    """Every system on the shop, and rerankers of several seeds."""
    data = simulated(replace(recipe.shop, out=run / "data"), console)
    made = {
        name: scored(run / "scores" / f"{name}.npz", no_valid(data), partial(baseline_system, name, data, run / "data"))
        for name in recipe.systems
    }
    matched = RankingData(
        data.items,
        {split: [with_match_features(one, data.items) for one in lists] for split, lists in data.lists.items()},
    )
    make = partial(baseline_system, "lambdamart", matched, run)
    made["lambdamart_match"] = scored(run / "scores" / "lambdamart_match.npz", no_valid(matched), make)
    for n in range(recipe.seeds):
        name = SMALL if n == 0 else f"{SMALL}_seed{n}"
        model = trained(replace(recipe.model, data=run / "data", out=run / name, seed=n), console)
        made[name] = scored(run / "scores" / f"{name}.npz", no_valid(data), partial(reranker_system, model, data))
    return made, data, {}


def with_bias(recipe: MarketplaceRecipe, run: Path, console: Console) -> Part:
    """The same shoppers' clicks at biased places or at random ones; all measured on the biased shop's test lists."""
    changed = replace(recipe.shop, images=False, **recipe.bias)  # type: ignore[arg-type]
    biased = simulated(replace(changed, out=run / "data"), console)
    simulated(replace(changed, randomised=1.0, out=run / "random"), console)
    propensities = run / "propensities.json"
    if not propensities.exists():
        estimate(
            PropensityConfig(run / "data", out=propensities, method="randomised", lists=run / "data" / RANDOMISED_FILE)
        )
    configs = {
        "as_clicked": replace(recipe.model, data=run / "data"),
        "corrected": replace(recipe.model, data=run / "data", propensities=propensities),
        "random_places": replace(recipe.model, data=run / "random"),
    }
    made = {
        "first_stage": scored(
            run / "scores" / "first_stage.npz",
            no_valid(biased),
            partial(baseline_system, "first_stage", biased, run),
        )
    }
    for name, config in configs.items():
        model = trained(replace(config, out=run / name), console)
        made[name] = scored(run / "scores" / f"{name}.npz", no_valid(biased), partial(reranker_system, model, biased))
    return made, biased, recovered(made, biased)


def with_context(recipe: MarketplaceRecipe, run: Path, console: Console) -> Part:
    """Candidates alone against candidates that see those before them, over one base; and orders of arrival."""
    data = simulated(replace(recipe.shop, images=False, out=run / "data", **recipe.context), console)  # type: ignore[arg-type]
    base = recipe.context_base
    if not (base.out / "config.json").exists():
        console.rule(str(base.out))
        pretrain(base)
    alone = replace(recipe.model, data=run / "data", model=replace(recipe.model.model, base=str(base.out)))
    augment = replace(recipe.model.augment, shuffle=True)
    joint = trained(replace(alone, out=run / "joint", candidates="joint", augment=augment), console)
    models = {"independent": trained(replace(alone, out=run / "independent"), console), "joint": joint}
    first = partial(baseline_system, "first_stage", data, run)
    made = {"first_stage": scored(run / "scores" / "first_stage.npz", no_valid(data), first)}
    for name, model in models.items():
        made[name] = scored(run / "scores" / f"{name}.npz", no_valid(data), partial(reranker_system, model, data))
    return made, data, arrivals(run, data, joint)


def without_knowledge(run: Path, data: RankingData) -> Part:
    """The reranker of the shop as it is, for shoppers without a history."""
    lists = {split: [without_history(one) for one in lists] for split, lists in data.lists.items()}
    unknown = RankingData(data.items, lists)
    make = {
        "first_stage": partial(baseline_system, "first_stage", unknown, run),
        SMALL: partial(reranker_system, run / SMALL, unknown),
    }
    made = {
        name: scored(run / "scores" / f"cold_{name}.npz", no_valid(unknown), system) for name, system in make.items()
    }
    return made, unknown, {}


def simulated(config: MarketplaceConfig, console: Console) -> RankingData:
    """The shop's data set, made where it is not there."""
    if not (config.out / "test.parquet").exists():
        console.rule(str(config.out))
        simulate_folder(config)
    return load_dataset_folder(config.out)


def trained(config: FinetuneConfig, console: Console) -> Path:
    """The reranker's folder, made where it is not there."""
    if not (config.out / SPEC_FILE).exists():
        console.rule(str(config.out))
        finetune(config)
    return config.out


def closed(result: Mapping[str, Mapping[str, list[float]]]) -> dict[str, float]:
    """Share of the distance that LambdaMART with match features closes from the first stage: 1 is as much."""
    first, whole = (result[name]["ndcg@10"][0] for name in ("first_stage", "lambdamart_match"))
    return {name: (row["ndcg@10"][0] - first) / (whole - first) for name, row in result.items() if name.startswith(OWN)}


def recovered(made: Mapping[str, Made], data: RankingData) -> dict[str, Any]:
    """What bias costs in nDCG@10, what the correction brings back, and its share with a 95 % interval."""
    truth = Truth.of(data.lists["test"])
    per_list = {name: measure(one.scores["test"], truth, 10).per_list["ndcg@10"] for name, one in made.items()}
    weights = resample(len(truth.users), RESAMPLES, 0).astype(np.float64)
    cost = np.nan_to_num(per_list["random_places"] - per_list["as_clicked"])
    gain = np.nan_to_num(per_list["corrected"] - per_list["as_clicked"])
    shares = (weights @ gain) / (weights @ cost)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    return {
        "cost": float(cost.mean()),
        "brought_back": float(gain.mean()),
        "share": [float(gain.mean() / cost.mean()), low, high],
    }


def arrivals(run: Path, data: RankingData, model: Path) -> dict[str, Any]:
    """The joint model's nDCG@10 and how alike its orders are when candidates arrive in other orders."""
    rng = np.random.default_rng(0)
    lists = data.lists["test"]
    truth = Truth.of(lists)
    values, orders = [], []
    for n in range(_ARRIVALS):
        places = [rng.permutation(len(one.candidates)) for one in lists]
        mixed = [one.only(order.tolist()) for one, order in zip(lists, places, strict=True)]
        shown = RankingData(data.items, {"test": mixed})
        made = scored(run / "scores" / f"arrival_{n}.npz", shown, partial(reranker_system, model, shown))
        back = []
        for order, found in zip(places, made.scores["test"], strict=True):
            scores = np.empty(len(order))
            scores[order] = found
            back.append(scores)
        orders.append(back)
        values.append(float(measure(back, truth, 10).per_list["ndcg@10"].mean()))
    alike = [kendalltau(a, b).statistic for other in orders[1:] for a, b in zip(orders[0], other, strict=True)]
    return {
        "arrivals": values,
        "standard_deviation": float(np.std(values, ddof=1)),
        "kendall_tau": float(np.nanmean(alike)),
    }

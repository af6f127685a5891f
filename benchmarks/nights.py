"""Claim: nights of `reshelf retrain` on what was served end where training on unbiased clicks does.

    make bench NAME=nights                                        # some ten minutes of one core
    python -m benchmarks.nights --lists 300 --nights 1 --test 50  # a short look; nothing is written

The demo's shop. A reranker that was finetuned on a few lists in first-stage order begins. Every day its order is what
shoppers see, a product at place r with probability 1 / r^0.7, and its lists are logged as `reshelf serve` logs them;
every night `reshelf retrain` finetunes on the whole log and promotes, or does not. The measure is nDCG@10 of true
utility on lists of other shoppers. Beside it, a reranker that is finetuned in the same way on as many lists of the same
shoppers, who saw every product of first-stage order.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.harness import show, write_result
from reshelf.config import load_yaml
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.importing.mapping_file import find_mapping
from reshelf.data.marketplace import MarketplaceConfig, Simulator
from reshelf.data.marketplace.simulation import KINDS
from reshelf.data.schema import Item, RankingList
from reshelf.data.served_lists import SERVED_SCHEMA
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample
from reshelf.metrics.ordering import best_first
from reshelf.retrain import RESULT, RetrainConfig, retrain

DAYS = 400
"""The shoppers of one of this script's days come over 300 days; those of the day before are this much earlier."""
BEFORE, HELD_OUT = 10**6, 2 * 10**6
"""Numbers of the shoppers whose lists the first reranker is finetuned on, and of those it is measured on."""
Scores = Callable[[RankingList], np.ndarray] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=3)
    parser.add_argument("--lists", type=int, default=1600, help="lists a day")
    parser.add_argument("--first", type=int, default=400, help="lists that the first reranker is finetuned on")
    parser.add_argument("--test", type=int, default=400, help="lists that are measured on")
    args = parser.parse_args()
    simulator = Simulator(MarketplaceConfig(seed=1))
    test = lists_of(simulator, range(HELD_OUT, HELD_OUT + args.test // 2))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mapping = write_mapping(folder / "mapping.yaml")
        first = [earlier(one, args.nights) for one in lists_of(simulator, _shoppers(BEFORE, args.first))]
        running = finetuned(folder / "before", mapping, simulator.items, first)
        quality = {"before": measured(running, simulator.items, test)}
        log: list[RankingList] = []
        for night in range(1, args.nights + 1):
            with Reranker.from_pretrained(running, "transformers", simulator.items) as reranker:
                numbers = _shoppers(night * args.lists, args.lists)
                log += [earlier(one, args.nights - night) for one in lists_of(simulator, numbers, _scores_of(reranker))]
            write_log(folder / "log", simulator.items, log)
            retrain(RetrainConfig(running, folder / "log", folder / "retrain", str(mapping)))
            found = json.loads((folder / "retrain" / RESULT).read_text())
            quality[f"night {night}"] = measured(running, simulator.items, test)
            rows.append({"after": f"night {night}", "lists": len(log), "promoted": found["promoted"]})
        seen = Simulator(replace(simulator.config, position_bias=0.0))
        unbiased = [
            earlier(one, args.nights - night)
            for night in range(1, args.nights + 1)
            for one in lists_of(seen, _shoppers(night * args.lists, args.lists))
        ]
        model = finetuned(folder / "unbiased", mapping, seen.items, unbiased)
        quality["unbiased clicks"] = measured(model, seen.items, test)
    report(rows, quality, len(log), args)


def report(rows: list[dict[str, Any]], quality: dict[str, np.ndarray], lists: int, args: argparse.Namespace) -> None:
    """Show, and write what was measured in full."""
    rows = [
        {"after": "before", "lists": args.first, "promoted": None},
        *rows,
        {"after": "unbiased clicks", "lists": lists, "promoted": None},
    ]
    rows = [row | {"nDCG@10": float(quality[row["after"]].mean())} for row in rows]
    show("nights of retraining", rows)
    last, unbiased, first = quality[f"night {args.nights}"], quality["unbiased clicks"], quality["before"]
    draws = resample(len(last), 2000, seed=0)
    difference, gain = interval(last - unbiased, draws), interval(last - first, draws)
    ratios = {
        "nights_share_of_unbiased": float(last.mean() / unbiased.mean()),
        "nights_minus_unbiased": difference.mean, "nights_minus_unbiased_low": difference.low,
        "nights_minus_unbiased_high": difference.high,
        "nights_gain": gain.mean, "nights_gain_low": gain.low, "nights_gain_high": gain.high,
    }  # fmt: skip
    show("ratios", [ratios])
    if args.nights == 3 and args.lists >= 1600:
        sizes = {"lists a day": args.lists, "test lists": args.test, "candidates": 20, "position bias": 0.7}
        print(f"written to {write_result('nights', rows, ratios, sizes)}")


def lists_of(simulator: Simulator, numbers: range, scores_of: Scores = None) -> list[RankingList]:
    """The lists of these shoppers, in the order of scores, or of the first stage."""
    return [one for number in numbers for one in simulator.shopper(number, scores_of)]


def earlier(one: RankingList, nights: int) -> RankingList:
    """The same list before so many nights to come; the last one's are a year ago, for all of it lies in the past."""
    moved = timedelta(days=DAYS * (nights + 1))
    history = tuple(event.model_copy(update={"time": event.time - moved}) for event in one.history if event.time)
    return one.model_copy(update={"time": one.time and one.time - moved, "history": history})


def write_log(root: Path, items: dict[str, Item], lists: Sequence[RankingList]) -> None:
    """The shop's tables, as `reshelf serve --served_lists` and a page write them."""
    (root / "served").mkdir(parents=True, exist_ok=True)
    products = [[i.item_id, i.title, " > ".join(i.category), i.brand, i.price] for i in items.values()]
    _write_csv(root / "products.csv", ["sku", "name", "category", "brand", "price"], products)
    served, events, begun = [], [], set()
    for one in lists:
        assert one.time is not None
        order = best_first(-np.array(one.positions, dtype=float)).tolist()
        served.append(
            {
                "list_id": one.list_id, "time": one.time, "tenant": "open", "model": "running",
                "candidates": [one.candidates[k] for k in order], "first_stage": [k + 1 for k in order],
                "positions": list(range(1, len(order) + 1)), "propensities": [1.0] * len(order), "personalization": 1.0,
            }
        )  # fmt: skip
        if one.user_id not in begun:  # what came before the shopper's first list; the rest is on lists
            begun.add(one.user_id)
            events += [[e.time, one.user_id, e.kind.value, e.item_id, "", ""] for e in one.history]
        events.append([one.time, one.user_id, "search", "", one.query, one.list_id])
        now = one.time
        for k in np.flatnonzero(one.labels or ()):
            now += timedelta(minutes=1)
            kind = KINDS[(one.labels or ())[k]].value
            events.append([now, one.user_id, kind, one.candidates[k], "", one.list_id])
    pq.write_table(pa.Table.from_pylist(served, SERVED_SCHEMA), root / "served" / "served-1.parquet")
    _write_csv(root / "events.csv", ["time", "user_id", "kind", "item_id", "query", "list_id"], events)


def write_mapping(path: Path, **split: float) -> Path:
    """`served_lists` for this shop's catalogue; a fifth of the lists is held out."""
    mapping = yaml.safe_load(find_mapping("served_lists").read_text(encoding="utf-8"))
    mapping["items"] |= {"category": "category", "category_separator": " > ", "brand": "brand"}
    mapping["split"] |= {"valid": 0.1, "test": 0.2} | split
    path.write_text(yaml.safe_dump(mapping), encoding="utf-8")
    return path


def finetuned(folder: Path, mapping: Path, items: dict[str, Item], lists: Sequence[RankingList]) -> Path:
    """A reranker of the demo's recipe, without correction for places; returns its folder."""
    write_log(folder / "log", items, lists)
    import_folder(ImportConfig(str(mapping), folder / "data", folder / "log"))
    finetune(demo_run(folder))
    return folder / "model"


def demo_run(folder: Path, **changes: Any) -> FinetuneConfig:
    """The demo's finetuning, of FOLDER/data to FOLDER/model."""
    shipped = Path(str(files("reshelf.finetune")))
    places = {"data": folder / "data", "out": folder / "model", "model.base": str(shipped / "bases" / "marketplace")}
    return load_yaml(FinetuneConfig, shipped / "demo.yaml", **places | changes)


def measured(model: Path, items: dict[str, Item], lists: Sequence[RankingList]) -> np.ndarray:
    """nDCG@10 of true utility, float64 [lists]."""
    with Reranker.from_pretrained(model, "transformers", items) as reranker:
        return ndcg_per_list(reranker.score_lists(lists), Truth.of(lists), 10)


def _shoppers(first: int, lists: int) -> range:
    return range(first, first + lists // MarketplaceConfig.lists_per_shopper)


def _scores_of(reranker: Reranker) -> Scores:
    return lambda ranking: reranker.score_lists([ranking])[0]


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows([value.isoformat() if hasattr(value, "isoformat") else value for value in row] for row in rows)


if __name__ == "__main__":
    main()

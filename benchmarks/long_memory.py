"""Claim: of a long history, a line of counts in place of some events costs nothing, or gains.

    make bench NAME=long_memory ARGS="--beauty runs/quality/beauty_search"     # some twenty minutes of one core

Rerankers of one recipe that differ in what the prompt holds of a history: 128 tokens of the latest events, or 64 of
them and 64 of counts of those before (`prompt.memory_tokens`). On the demo's shop, but with shoppers who arrive with 40
to 80 events; and, where `make quality NAME=beauty_search` has left data and base, on Amazon Beauty by that recipe, 160
steps of it. nDCG@10 is of true utility in the simulated shop, of the next purchase on Beauty; there also of the lists
alone whose history does not fit. With one seed, the interval is over lists and knows nothing of training again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import show, write_result
from benchmarks.nights import demo_run
from benchmarks.quality_recipe import SMALL, Recipe
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import RankingData, load_dataset_folder, save_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample

BUDGETS = {
    "plain": {"history_tokens": 128},
    "memory": {"history_tokens": 64, "memory_tokens": 64},
}
"""What prompts hold of a history."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beauty", type=Path, help="folder that `make quality NAME=beauty_search` made")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each")
    parser.add_argument("--steps", type=int, default=0, help="optimizer steps, for a short look; nothing is written")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        shop = simulate(
            MarketplaceConfig(seed=2, history_min=40, history_max=80, train_lists=1600, valid_lists=200, test_lists=400)
        )
        save_dataset_folder(Path(name) / "data", shop)
        runs = {"simulated": (demo_run(Path(name), **{"model.quantise": False}), shop)}
        if args.beauty is not None:
            recipe = load_yaml(Recipe, Path(__file__).parent / "quality" / "beauty_search.yaml").rerankers[SMALL]
            base = replace(recipe.model, base=str(args.beauty / "base"))
            short = replace(recipe.optimizer, max_steps=160)
            run = replace(recipe, data=args.beauty / "data", model=base, optimizer=short)
            runs["beauty"] = (run, load_dataset_folder(args.beauty / "data", ["test"]))
        for where, (run, data) in runs.items():
            found, dropped = {}, np.zeros(0, dtype=bool)
            for budget in BUDGETS:
                values = []
                for seed in range(args.seeds):
                    out = Path(name) / where / f"{budget}{seed}"
                    model = trained(run, out, budget, seed, args.steps)
                    ndcg, cut = measured(model, data)
                    values.append(ndcg)
                    dropped = cut if budget == "plain" else dropped
                found[budget] = np.mean(values, axis=0)
            some, its = compared(where, found, dropped)
            rows += some
            ratios |= its
    show("long memory", rows)
    Console().print(ratios)
    if not args.steps:
        sizes = {"train lists": 1600, "history, tokens": 128, "counts, tokens": 64, "seeds": args.seeds}
        flags = ' ARGS="--beauty runs/quality/beauty_search"' if args.beauty else ""
        print(f"written to {write_result('long_memory', rows, ratios, sizes, f'make bench NAME=long_memory{flags}')}")


def trained(run: FinetuneConfig, out: Path, budget: str, seed: int, steps: int) -> Path:
    """A reranker whose prompts have this budget; returns its folder."""
    prompt = replace(run.prompt, history_block=4, **BUDGETS[budget])
    optimizer = replace(run.optimizer, max_steps=steps or run.optimizer.max_steps)
    finetune(replace(run, out=out, prompt=prompt, optimizer=optimizer, seed=seed, eval_every=50))
    return out


def measured(model: Path, data: RankingData) -> tuple[np.ndarray, np.ndarray]:
    """nDCG@10, float64 [lists], and whether a list's history did not fit, bool [lists]."""
    lists = data.lists["test"]
    with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
        ranked = reranker.score_lists(lists)
        cut = [reranker._builder.build(one).truncated.events > 0 for one in lists]
    return ndcg_per_list(ranked, Truth.of(lists), 10), np.array(cut)


def compared(
    where: str, found: Mapping[str, np.ndarray], dropped: np.ndarray
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of one shop, over all lists and over those whose history did not fit into `plain`."""
    rows, ratios = [], {}
    for what, lists in (("", np.ones(len(dropped), dtype=bool)), ("_cut", dropped)):
        rows += [
            {
                "lists": f"{where}{what}",
                "count": int(lists.sum()),
                "prompt": name,
                "nDCG@10": float(values[lists].mean()),
            }
            for name, values in found.items()
        ]
        difference = (found["memory"] - found["plain"])[lists]
        gain = interval(difference, resample(len(difference), 2000, seed=0))
        ratios |= {f"memory_gain_{where}{what}": gain.mean, f"memory_gain_{where}{what}_low": gain.low}
        ratios[f"memory_gain_{where}{what}_high"] = gain.high
    return rows, ratios


if __name__ == "__main__":
    main()

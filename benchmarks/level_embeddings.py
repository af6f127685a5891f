"""Claim: a network reads numbers better as levels whose embeddings are alike where levels are near.

    make bench NAME=level_embeddings ARGS="--data runs/quality/beauty_search/data"      # five minutes of one core

A reranker reads a number as a level, which is a token, and finetuning leaves embeddings as the base has them. Here a
small network takes the language model's place, so that nothing else differs: embeddings of each candidate's levels side
by side, two hidden layers, one score, listnet. `walk`: the embeddings of `finetune.pretraining.init`, which stay.
`random`: those of tokens that a base has never met. `trained`: begin so and are trained with the rest. `numbers`: no
levels, but the numbers themselves, standardised. Three seeds each on the same training lists, all of one length.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from benchmarks.harness import show, write_result
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.numbers import TEACHER
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.batches import thin
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.pretraining.init import level_walk
from reshelf.metrics.bootstrap import interval, resample
from reshelf.prompts.levels import FeatureLevels, fit_levels, values_of

READ_AS = ("numbers", "walk", "random", "trained")
SEEDS = (0, 1, 2)
WIDTH, HIDDEN = 64, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set folder whose lists have numbers")
    parser.add_argument("--levels", type=int, default=48, help="as `prompt.levels`")
    parser.add_argument("--steps", type=int, default=1250)
    parser.add_argument("--lists_per_step", type=int, default=32)
    parser.add_argument("--max_candidates", type=int, default=16, help="of a training list")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lists = load_dataset_folder(args.data).lists
    names = [name for name in lists["train"][0].features if name != TEACHER]
    levels = fit_levels(lists["train"], names, args.levels)
    train = [thin(one, args.max_candidates, (0, n)) for n, one in enumerate(lists["train"]) if any(one.labels or ())]
    labels = torch.tensor([one.labels for one in train])
    truth = Truth.of(lists["test"])
    found: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    for read_as in READ_AS:
        read = reader(read_as, names, levels, train)
        inputs, test = torch.stack([read(one) for one in train]), [read(one) for one in lists["test"]]
        per_seed = []
        for seed in SEEDS:
            model = network(read_as, len(names), args.levels + 1, seed)
            fit(model, inputs, labels, args.steps, args.lists_per_step, seed)
            with torch.inference_mode():
                scores = [model(one)[:, 0].numpy() for one in test]
            per_seed.append(ndcg_per_list(scores, truth, 10))
            print(f"{read_as}, seed {seed}: nDCG@10 {per_seed[-1].mean():.4f}", flush=True)
        found[read_as] = np.mean(per_seed, axis=0)
        rows.append({"read as": read_as, "nDCG@10": found[read_as].mean(),
                     "of each seed": ", ".join(f"{one.mean():.4f}" for one in per_seed)})  # fmt: skip
    ratios = {}
    for other in ("random", "trained", "numbers"):
        gain = interval(found["walk"] - found[other], resample(len(found[other]), 2000, seed=0))
        key = f"level_walk_over_{other}"
        ratios |= {key: gain.mean, f"{key}_low": gain.low, f"{key}_high": gain.high}
    show("levels of numbers", rows)
    Console().print(ratios)
    sizes = {"training lists": len(train), "test lists": len(lists["test"]), "numbers": len(names),
             "steps": args.steps, "seeds": len(SEEDS)}  # fmt: skip
    command = f'make bench NAME=level_embeddings ARGS="--data {args.data}"'
    print(f"written to {write_result('level_embeddings', rows, ratios, sizes, command)}")


def reader(
    read_as: str, names: Sequence[str], levels: FeatureLevels, train: Sequence[RankingList]
) -> Callable[[RankingList], torch.Tensor]:
    """What the network is given of a list: levels, int64 [K, numbers], or the numbers, float32 of the same shape."""

    def numbers(one: RankingList) -> np.ndarray:
        return np.stack([values_of(one, name) for name in names], 1)

    if read_as != "numbers":
        return lambda one: torch.from_numpy(np.stack([levels.of(one)[name] for name in names], 1))
    seen = np.concatenate([numbers(one) for one in train])
    mean, spread = np.nanmean(seen, 0), np.nanstd(seen, 0)
    return lambda one: torch.from_numpy(np.nan_to_num((numbers(one) - mean) / spread)).float()


def network(read_as: str, numbers: int, levels: int, seed: int) -> nn.Module:
    """[..., K, numbers] to scores [..., K, 1]."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    table: list[nn.Module] = []
    if read_as != "numbers":
        random = torch.randn(levels, WIDTH, generator=generator)
        weights = level_walk(levels, WIDTH, generator) if read_as == "walk" else random
        table = [nn.Embedding.from_pretrained(weights / 4, freeze=read_as != "trained"), nn.Flatten(-2)]
    width = numbers * (WIDTH if table else 1)
    hidden = [nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1)]
    return nn.Sequential(*table, *hidden)


def fit(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, steps: int, lists_per_step: int, seed: int
) -> None:
    """listnet, AdamW, one cycle of the learning rate.

    Args:
        inputs: [lists, K, numbers].
        labels: [lists, K].
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        drawn = torch.randint(len(inputs), (lists_per_step,), generator=generator)
        scores = model(inputs[drawn])[..., 0]
        ones = torch.ones_like(scores)
        loss = listnet(scores, labels[drawn], ones.bool(), ones[:, 0], ones).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()

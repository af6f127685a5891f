"""Claim: a pretrained base reads levels written as letters in less time than numbers; what that costs in order.

    make bench NAME=level_format ARGS="--base DIR --data runs/quality/bestbuy_now/data"      # 40 minutes of two cores

Such a base spells most numbers in two or three tokens, and a letter in one (`prompt.level_format: letter`). It is
finetuned on the same lists with names and numbers beside every candidate, with names in the prefix, and with letters
there, one training each, and ranks the same test lists. Some of these are timed in turns.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import alternate, show, write_result
from reshelf.config import load_yaml
from reshelf.data.atomic import write_json
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.progress import StepTimer
from reshelf.finetune.run import finetune, is_finished
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.prompts.builder import PromptBuilder

RECIPE = Path(__file__).parents[1] / "finetune" / "gemma3_270m.yaml"
WRITTEN = {
    "beside names": {"feature_names": "candidate", "level_format": "number"},
    "numbers": {"feature_names": "prefix", "level_format": "number"},
    "letters": {"feature_names": "prefix", "level_format": "letter"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of a pretrained base")
    parser.add_argument("--data", type=Path, required=True, help="data set folder whose lists have features")
    parser.add_argument("--out", type=Path, default=Path("runs/level_format"), help="what is finished there is kept")
    parser.add_argument("--train", type=int, default=480, help="training lists")
    parser.add_argument("--test", type=int, default=400, help="test lists, drawn at random")
    parser.add_argument("--timed", type=int, default=12, help="test lists that are timed")
    args = parser.parse_args()
    data = load_dataset_folder(args.data)
    order = np.random.default_rng(0).permutation(len(data.lists["test"]))
    test = [data.lists["test"][n] for n in order[: args.test]]
    found, calls = {}, {}
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for name, how in WRITTEN.items():
            model, step_s = trained(args, name, how, [*test[0].features, "first_stage"])
            reranker = stack.enter_context(Reranker.from_pretrained(model, "transformers", data.items))
            found[name] = ndcg_per_list(reranker.score_lists(test), Truth.of(test), 10)
            calls[name] = partial(scored, reranker, test[: args.timed])
            builder = PromptBuilder(load_tokenizer(str(model)), reranker.spec.prompt, data.items, reranker.spec.levels)
            written = [builder.build(one) for one in test]
            rows.append(
                {
                    "levels": name,
                    "nDCG@10": float(found[name].mean()),
                    "tokens per candidate": float(np.mean([len(ids) for one in written for ids in one.items])),
                    "tokens per list": float(np.mean([one.tokens for one in written])),
                    "s per step": step_s,
                }
            )
        times = alternate(calls, runs=3)
    for row in rows:
        row[f"s of {args.timed} lists"] = times[row["levels"]].text
    beside, numbers, letters = rows
    ratios = {
        "level_format_tokens": letters["tokens per list"] / numbers["tokens per list"],
        "level_format_step_seconds": letters["s per step"] / numbers["s per step"],
        "level_format_seconds": times["letters"].median / times["numbers"].median,
        "level_format_seconds_beside": times["letters"].median / times["beside names"].median,
        "level_format_step_seconds_beside": letters["s per step"] / beside["s per step"],
    }
    for other, key in (("numbers", "level_format_ndcg"), ("beside names", "level_format_ndcg_beside")):
        gain = interval(found["letters"] - found[other], resample(len(test), 2000, seed=0))
        ratios |= {key: gain.mean, f"{key}_low": gain.low, f"{key}_high": gain.high}
    show("levels", rows)
    Console().print(ratios)
    sizes = {"training lists": args.train, "test lists": len(test), "numbers": len(test[0].features) + 1}
    command = 'make bench NAME=level_format ARGS="--base DIR --data runs/quality/bestbuy_now/data"'
    print(f"written to {write_result('level_format', rows, ratios, sizes, command)}")


def scored(reranker: Reranker, lists: Sequence[RankingList]) -> None:
    reranker.score_lists(lists)


def trained(args: argparse.Namespace, name: str, how: dict[str, Any], features: list[str]) -> tuple[Path, float]:
    """A reranker's folder, and how many seconds a step of it took."""
    out = args.out / name.replace(" ", "_")
    fields = {
        "data": str(args.data),
        "out": str(out),
        "train_lists": args.train,
        "valid_lists": 60,
        "eval_every": 10_000,
    }
    sizes = {"levels": 48, "history_tokens": 96, "query_tokens": 96, "item_tokens": 40}
    prompt = {f"prompt.{field}": value for field, value in {**sizes, **how, "features": features}.items()}
    model = {"model.base": str(args.base), "optimizer.epochs": 1}
    took = out / "seconds.json"
    if not is_finished(out):
        timer = StepTimer(math.inf)  # which ends nothing
        finetune(load_yaml(FinetuneConfig, RECIPE, **fields, **prompt, **model), callbacks=[timer])
        write_json(took, timer.step_s)
    return out, float(json.loads(took.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

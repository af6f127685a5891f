"""Claim: with names of numbers once in the prefix (`prompt.feature_names: prefix`) lists are shorter, no worse ordered.

    make bench NAME=feature_names ARGS="--run runs/quality/homedepot --base DIR"      # some ten minutes of one core

After `make quality NAME=homedepot`: its small reranker beside one of the same recipe with names in the prefix, over a
base pretrained so, on the same test lists. And with the tokenizer and the weights of a real base, which is not trained
here: tokens of lists and seconds to score them, by the prompt of the row `reshelf` with all the numbers.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from benchmarks.harness import alternate, show, write_result
from benchmarks.quality_recipe import REAL, SMALL, Recipe
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.pretrain import pretrain
from reshelf.finetune.run import finetune, is_finished
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import ListPrompt, PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import fit_levels

OUT = Path("runs/feature_names")
PLACES: tuple[Literal["candidate", "prefix"], ...] = ("candidate", "prefix")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/quality/homedepot"), help="what `make quality` made")
    parser.add_argument("--base", type=Path, required=True, help="folder of a real base, to count and to time with")
    parser.add_argument("--lists", type=int, default=40, help="test lists that are timed")
    args = parser.parse_args()
    recipe = load_yaml(Recipe, Path(__file__).parent / "quality" / f"{args.run.name}.yaml")
    data = load_dataset_folder(args.run / "data", ["train", "test"])
    models = {"candidate": args.run / SMALL, "prefix": trained(recipe, OUT / args.run.name)}
    found = {where: ndcg(model, data) for where, model in models.items()}
    small = recipe.rerankers[SMALL].prompt
    prompt = replace(recipe.rerankers.get(REAL, recipe.rerankers[SMALL]).prompt, features=small.features)
    model, tokenizer = load_base(ModelConfig(str(args.base), quantise=False, dtype="bfloat16"), "cpu")
    lists = {where: written(tokenizer, data, replace(prompt, feature_names=where), args.lists) for where in PLACES}
    times = alternate(timers(model, tokenizer, lists), runs=3)
    rows: list[dict[str, Any]] = [
        {
            "names": where,
            "tokens per candidate": round(float(np.mean([len(item) for one in lists[where] for item in one.items])), 1),
            "tokens per list": round(float(np.mean([one.tokens for one in lists[where]])), 1),
            f"s of {args.lists} lists": times[where].text,
            "nDCG@10, small base": float(np.nanmean(found[where])),
        }
        for where in PLACES
    ]
    difference = found["prefix"] - found["candidate"]
    gain = interval(difference, resample(len(difference), 2000, seed=0))
    before, after = (rows[n]["tokens per list"] for n in (0, 1))
    ratios = {
        "feature_names_tokens": after / before,
        "feature_names_seconds": times["prefix"].median / times["candidate"].median,
        "feature_names_ndcg": gain.mean,
        "feature_names_ndcg_low": gain.low,
        "feature_names_ndcg_high": gain.high,
    }
    show("names of numbers", rows)
    Console().print(ratios)
    sizes = {"test lists": len(difference), "numbers": len(small.features), "timed lists": args.lists}
    command = f'make bench NAME=feature_names ARGS="--run {args.run} --base DIR"'
    print(f"written to {write_result('feature_names', rows, ratios, sizes, command)}")


def trained(recipe: Recipe, out: Path) -> Path:
    """The recipe's small reranker, names in the prefix; returns its folder. What is finished is not made again."""
    run: FinetuneConfig = recipe.rerankers[SMALL]
    base = replace(recipe.base, out=out / "base", prompt=replace(recipe.base.prompt, feature_names="prefix"))
    if not (base.out / "config.json").exists():
        pretrain(base)
    if not is_finished(out / SMALL):
        prompt, model = replace(run.prompt, feature_names="prefix"), replace(run.model, base=str(base.out))
        finetune(replace(run, out=out / SMALL, prompt=prompt, model=model))
    return out / SMALL


def ndcg(model: Path, data: RankingData) -> np.ndarray:
    """nDCG@10 of the test lists, float64."""
    lists = data.lists["test"]
    with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
        return ndcg_per_list(reranker.score_lists(lists), Truth.of(lists), 10)


def written(
    tokenizer: PreTrainedTokenizerBase, data: RankingData, prompt: PromptConfig, count: int
) -> list[ListPrompt]:
    """Test lists as the tokens of a real base."""
    levels = fit_levels(data.lists["train"], prompt.features, prompt.levels)
    builder = PromptBuilder(tokenizer, prompt.in_language_of(data.items.values()), data.items, levels)
    return [builder.build(one) for one in data.lists["test"][:count]]


def timers(
    model: Any, tokenizer: PreTrainedTokenizerBase, lists: dict[Literal["candidate", "prefix"], list[ListPrompt]]
) -> dict[str, Any]:
    """Calls that score the lists one by one."""
    attach_head(model, *PromptBuilder(tokenizer, PromptConfig(template="plain"), {}).label_ids)
    model.eval()

    @torch.inference_mode()
    def run(prompts: list[ListPrompt]) -> None:
        for prompt in prompts:
            score(model, pack([prompt]))

    return {where: lambda prompts=prompts: run(prompts) for where, prompts in lists.items()}


if __name__ == "__main__":
    main()

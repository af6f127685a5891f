"""Claim: with names of numbers once in the prefix (`prompt.feature_names: prefix`) lists are shorter, no worse ordered.

    make bench NAME=feature_names ARGS="--base DIR"      # half an hour of one core; data sets of ../shared/data

The English shop of `benchmarks.quickstart`, seven numbers per product. Over one small base, `finetune/shop_small.yaml`
with the names beside each level and in the prefix, as many steps of the same lists, three seeds each, on the same test
lists. And with the tokenizer and the weights of a real base, which is not trained here: tokens of lists and seconds to
score them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from benchmarks.harness import alternate, show, write_result
from benchmarks.quickstart import english_shop
from reshelf.config import load_yaml
from reshelf.data.atomic import write_json
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.importing.mapping_file import load_mapping
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.card import CARD
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.pretrain import PretrainConfig, pretrain
from reshelf.finetune.progress import StepTimer
from reshelf.finetune.run import finetune, is_finished
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import fit_levels
from reshelf.prompts.list_prompt import ListPrompt

Places = Literal["candidate", "prefix"]
PLACES: tuple[Places, ...] = ("candidate", "prefix")
SEEDS, STEPS, TEXTS = (0, 1, 2), 120, 4000
RECIPES = Path(__file__).parents[1] / "finetune"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--base", type=Path, required=True, help="folder of a real base, to count and to time with")
    parser.add_argument("--out", type=Path, default=Path("runs/feature_names"), help="what is finished there is kept")
    parser.add_argument("--lists", type=int, default=20, help="test lists that are timed")
    args = parser.parse_args()
    data = shop(args.out, args.root)
    test = data.lists["test"]
    truth = Truth.of(test)
    found: dict[Places, list[np.ndarray]] = {where: [] for where in PLACES}
    steps: dict[Places, list[float]] = {where: [] for where in PLACES}
    for seed, where in itertools.product(SEEDS, PLACES):
        model, seconds = trained(args.out, where, seed)
        steps[where].append(seconds)
        with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
            found[where].append(ndcg_per_list(reranker.score_lists(test), truth, 10))
            prompt = reranker.spec.prompt
    real, tokenizer = load_base(ModelConfig(str(args.base), quantise=False, dtype="bfloat16"), "cpu")
    lists = {where: written(tokenizer, data, replace(prompt, feature_names=where), args.lists) for where in PLACES}
    times = alternate(timers(real, tokenizer, lists), runs=3)
    rows: list[dict[str, Any]] = [
        {
            "names": where,
            "nDCG@10": float(np.mean(found[where])),
            "of each seed": ", ".join(f"{one.mean():.3f}" for one in found[where]),
            "s per step": float(np.median(steps[where])),
            "tokens per candidate, real base": float(np.mean([len(i) for one in lists[where] for i in one.items])),
            "tokens per list": float(np.mean([one.tokens for one in lists[where]])),
            f"s of {args.lists} lists": times[where].text,
        }
        for where in PLACES
    ]
    difference = np.mean(found["prefix"], axis=0) - np.mean(found["candidate"], axis=0)
    gain = interval(difference, resample(len(difference), 2000, seed=0))
    ratios = {
        "feature_names_ndcg": gain.mean,
        "feature_names_ndcg_low": gain.low,
        "feature_names_ndcg_high": gain.high,
        "feature_names_step_seconds": rows[1]["s per step"] / rows[0]["s per step"],
        "feature_names_tokens": rows[1]["tokens per list"] / rows[0]["tokens per list"],
        "feature_names_seconds": times["prefix"].median / times["candidate"].median,
    }
    show("names of numbers", rows)
    Console().print(ratios)
    sizes = {"test lists": len(test), "numbers": len(prompt.features), "steps": STEPS, "seeds": len(SEEDS)}
    command = 'make bench NAME=feature_names ARGS="--base DIR"'
    print(f"written to {write_result('feature_names', rows, ratios, sizes, command)}")


def shop(out: Path, root: Path) -> RankingData:
    """The data set, and in `out/base` a small base of its sessions. What is finished is not made again."""
    tables = out / "tables"
    if not (out / "data").is_dir():
        if not tables.is_dir():
            english_shop(tables, root)
        changes = {"signals.names": load_mapping("shop").signals.names}
        import_folder(ImportConfig(str(tables / "shop.yaml"), out / "data", tables, changes=changes, quiet=True))
    base = load_yaml(PretrainConfig, RECIPES / "pretrain_shop.yaml", data=str(out / "data"), out=str(out / "base"))
    if not (base.out / CARD).exists():
        pretrain(replace(base, texts=TEXTS, max_candidates=16))
    return load_dataset_folder(out / "data")


def trained(out: Path, where: Places, seed: int) -> tuple[Path, float]:
    """A reranker's folder, and how many seconds a step of it took."""
    run = load_yaml(
        FinetuneConfig, RECIPES / "shop_small.yaml", data=str(out / "data"), out=str(out / f"{where}_{seed}"),
        **{"model.base": str(out / "base"), "prompt.feature_names": where},
    )  # fmt: skip
    took = run.out / "seconds.json"
    if not is_finished(run.out):
        optimizer = replace(run.optimizer, max_steps=STEPS, epochs=100)
        timer = StepTimer(math.inf)  # which ends nothing
        finetune(replace(run, seed=seed, optimizer=optimizer, eval_every=STEPS, valid_lists=60), callbacks=[timer])
        write_json(took, timer.step_s)
    return run.out, float(json.loads(took.read_text(encoding="utf-8")))


def written(
    tokenizer: PreTrainedTokenizerBase, data: RankingData, prompt: PromptConfig, count: int
) -> list[ListPrompt]:
    """Test lists as the tokens of a real base."""
    levels = fit_levels(data.lists["train"], prompt.features, prompt.levels)
    builder = PromptBuilder(tokenizer, prompt.in_language_of(data.items.values()), data.items, levels)
    return [builder.build(one) for one in data.lists["test"][:count]]


def timers(model: Any, tokenizer: PreTrainedTokenizerBase, lists: dict[Places, list[ListPrompt]]) -> dict[str, Any]:
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

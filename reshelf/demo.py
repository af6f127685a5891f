"""`make demo`: simulate a shop, finetune the shipped base in 4 bits, and see how much better the order got.

    python -m reshelf.demo

Leaves the data in runs/demo/data, the model in runs/demo/model and the figures in runs/demo/report.json. A demo that
was cut short goes on where it was.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reshelf.config import load_yaml
from reshelf.data.atomic import atomic
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate_folder
from reshelf.errors import InputError
from reshelf.evaluation.compare import before_after
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.run import evaluate
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.reranker import Reranker
from reshelf.modeling.checkpoint import SPEC_FILE

RUN = Path("runs/demo")
SHOP = MarketplaceConfig(out=RUN / "data", seed=1, train_lists=1600, valid_lists=200, test_lists=400)


def main() -> int:
    started = time.perf_counter()
    console = Console()
    config = load_yaml(FinetuneConfig, "finetune/demo.yaml")
    console.rule("1. A simulated shop: products, shoppers with hidden tastes, and what they clicked")
    if not (SHOP.out / "test.parquet").exists():
        simulate_folder(SHOP)
    console.rule("2. LoRA finetuning of the base in 4 bits, on clicks")
    if not (config.out / SPEC_FILE).exists():
        finetune(config)
    console.rule("3. Shoppers never seen in training: nDCG@10 against what they truly want")
    report = evaluate(EvaluateConfig(data=SHOP.out, model=config.out, out=RUN, engine="transformers"), console)
    console.rule("4. One shopper's list, scored by two engines")
    _one_list(config.out, console)
    report["seconds"] = time.perf_counter() - started
    with atomic(RUN / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=2), encoding="utf-8")
    console.rule("How much of the way to the best possible order")
    _share(report, console)
    console.print(
        f"{report['seconds']:.0f} s in all. Model: {config.out}, figures: {RUN / 'report.json'}", highlight=False
    )
    return 0


def _one_list(model: Path, console: Console) -> None:
    """The first test list before and after, with the scores of transformers and of vLLM where it is installed."""
    data = load_dataset_folder(SHOP.out, ("test",))
    ranking = data.lists["test"][0]
    with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
        scores = reranker.score_lists([ranking])[0]
    if find_spec("vllm") is None:
        console.print(before_after(ranking, data.items, scores))
        console.print("vLLM is not installed here, so there is no second engine to compare with.")
        return
    with console.status("starting vLLM (about 40 s on a CPU)"):
        reranker = Reranker.from_pretrained(model, "vllm", data.items)
    with reranker:
        served = reranker.score_lists([ranking])[0]
    console.print(before_after(ranking, data.items, scores, others={"vLLM": served}))
    console.print(
        f"Largest difference between transformers and vLLM: {np.abs(scores - served).max():.1e}", highlight=False
    )


def _share(report: dict[str, Any], console: Console) -> None:
    values = {name: metrics["ndcg@10"] for name, metrics in report["systems"].items()}
    low, high = values["first_stage"], values["best_possible"]
    for name in ("base", "finetuned"):
        share = report["gap_closed"][name]
        console.print(
            f"{name:<10} nDCG@10 {values[name]:.3f}: {share:6.1%} of the way from {low:.3f} to {high:.3f}",
            highlight=False,
        )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"reshelf demo: {error}", file=sys.stderr)
        sys.exit(2)

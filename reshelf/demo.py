"""`reshelf demo`: simulate a shop, finetune the shipped base in 4 bits, and see how much better the order got.

    reshelf demo
    reshelf demo --quick --out runs/quick

Leaves the data in OUT/data, the model in OUT/model and the figures in OUT/report.json. A demo that was cut short goes
on where it was. It needs no checkout: its settings and its base are in the package.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reshelf.click_weights import weigh_clicks
from reshelf.config import load_yaml
from reshelf.data.atomic import locked_folder, write_json
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate_folder
from reshelf.evaluation.compare import before_after
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.run import evaluate
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.engines.engine import vllm_is_installed
from reshelf.inference.reranker import Reranker
from reshelf.modeling.spec import SPEC_FILE
from reshelf.progress import phase


@dataclass
class DemoConfig:
    """A simulated shop, a reranker for it, and a comparison."""

    out: Path = Path("runs/demo")
    """Folder for the data, the model and the figures. What is finished there is not made again."""
    quick: bool = False
    """A shop with few lists, two steps of training and no second engine: half a minute, and figures of 20 lists."""


def demo(config: DemoConfig, console: Console | None = None) -> None:
    """Simulate, finetune, evaluate, and print each.

    Raises:
        InputError: the output folder cannot be written to, holds a run with other settings, or another works there.
    """
    with locked_folder(config.out, "demo"):
        _demo(config, console or Console())


def _demo(config: DemoConfig, console: Console) -> None:
    started = time.perf_counter()
    shop = MarketplaceConfig(out=config.out / "data", seed=1, train_lists=1600, valid_lists=200, test_lists=400)
    run = demo_run(config)
    if config.quick:
        shop.train_lists, shop.valid_lists, shop.test_lists = 40, 10, 20
        run.optimizer.max_steps, run.eval_every = 2, 2
    console.rule("1. A simulated shop, its shoppers and their clicks")
    if not (shop.out / "test.parquet").exists():
        simulate_folder(shop)
    console.rule("2. LoRA finetuning of the base in 4 bits, on clicks weighted by inverse propensity")
    weigh_clicks(run, load_dataset_folder(shop.out, ("train", "valid")), console)
    if not (run.out / SPEC_FILE).exists():
        finetune(run)
    console.rule("3. Shoppers never seen in training: nDCG@10 against what they truly want")
    settings = EvaluateConfig(data=shop.out, model=run.out, out=config.out, engine="transformers")
    report = evaluate(settings, console)
    console.rule("4. One shopper's list, before and after")
    one_list(shop.out, run.out, console, second_engine=not config.quick)
    report["seconds"] = time.perf_counter() - started
    write_json(config.out / "report.json", report)
    console.rule("How much of the way to the best possible order")
    _share(report, console)
    figures = config.out / "report.json"
    console.print(f"{report['seconds']:.0f} s in all. Model: {run.out}, figures: {figures}", highlight=False)
    serve = f"reshelf serve {run.out} --data {shop.out}"
    console.print(f"\nServe it, with a page at localhost:8000/ui:\n\n    {serve}\n", highlight=False, soft_wrap=True)


def demo_run(config: DemoConfig) -> FinetuneConfig:
    """`finetune/demo.yaml` as it is shipped, over the shipped base, wherever the package is."""
    shipped = Path(str(files("reshelf.finetune")))
    base = shipped / "bases" / "marketplace"
    folders = {"data": config.out / "data", "out": config.out / "model", "model.base": str(base)}
    return load_yaml(FinetuneConfig, shipped / "demo.yaml", **folders)


def one_list(folder: Path, model: Path, console: Console, second_engine: bool = False, split: str = "test") -> None:
    """A list before and after, with the scores of transformers and of vLLM where it is installed."""
    data = load_dataset_folder(folder, (split,))
    ranking = next((one for one in data.lists[split] if one.history and any(one.labels or ())), data.lists[split][0])
    with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
        scores = reranker.score_lists([ranking])[0]
    if not second_engine or not vllm_is_installed():
        console.print(before_after(ranking, data.items, scores))
        if second_engine:
            console.print("vLLM is not installed here, so there is no second engine to compare with.")
        return
    with phase(console, "starting vLLM (about 40 s on a CPU)"):
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

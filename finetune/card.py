"""What a training run leaves for people: the curve as a picture and as numbers, and a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reshelf.data.store import RankingData, atomic
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.validation import METRIC

CURVE, CURVE_PLOT, CARD = "curve.json", "curve.png", "README.md"


def write_curve(folder: Path, log: Sequence[dict[str, Any]]) -> None:
    """`curve.json`: training loss by step and validation figures; `curve.png`: the same to look at."""
    train = [{"step": e["step"], "loss": e["loss"]} for e in log if "loss" in e]
    valid = [{"step": e["step"], "loss": e["eval_loss"], "ndcg@10": e[METRIC]} for e in log if METRIC in e]
    with atomic(folder / CURVE) as partial:
        partial.write_text(json.dumps({"train": train, "valid": valid}, indent=1), encoding="utf-8")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    left.plot(
        [e["step"] for e in train], [e["loss"] for e in train], color="0.75", linewidth=0.8, label="train, each step"
    )
    left.plot(*_smooth(train), color="tab:blue", label="train, mean of 20")
    left.plot([e["step"] for e in valid], [e["loss"] for e in valid], "o-", color="tab:orange", label="valid")
    left.set(xlabel="optimiser step", ylabel="loss")
    left.legend(frameon=False)
    right.plot([e["step"] for e in valid], [e["ndcg@10"] for e in valid], "o-", color="tab:orange")
    right.set(xlabel="optimiser step", ylabel="nDCG@10 on valid")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic(folder / CURVE_PLOT) as partial:
        figure.savefig(partial, format="png", dpi=130)
    pyplot.close(figure)


def _smooth(points: Sequence[dict[str, float]], width: int = 20) -> tuple[list[float], list[float]]:
    rows = range(width - 1, len(points))
    return [points[n]["step"] for n in rows], [
        sum(p["loss"] for p in points[n - width + 1 : n + 1]) / width for n in rows
    ]


def write_card(folder: Path, config: FinetuneConfig, data: RankingData, state: Any, processes: int) -> None:
    """The model card: what it was trained over and on, how, and how well it orders the validation lists."""
    valid = [entry for entry in state.log_history if METRIC in entry]
    rows = "\n".join(f"| {e['step']} | {e['eval_loss']:.4f} | {e[METRIC]:.4f} |" for e in valid)
    lora, optimiser = config.lora, config.optimiser
    lists = {split: len(data.lists[split]) for split in ("train", "valid")}
    size = optimiser.lists_per_step * optimiser.accumulation * processes
    quantised = "4-bit NF4, double quantised (bitsandbytes)" if config.model.quantise else "not quantised"
    text = f"""---
library_name: reshelf
base_model: {config.model.base}
pipeline_tag: text-ranking
---

# A reranker finetuned with Reshelf

It reads a shopper's history, a query and a product, and answers with logit({config.prompt.positive}) −
logit({config.prompt.negative}): higher means this shopper will want it more. Only differences within one list mean
anything; the number is not a calibrated probability.

    from reshelf import Reranker
    reranker = Reranker.from_pretrained("{folder}")

## Training

| | |
|---|---|
| base | `{config.model.base}`, {quantised}, {config.model.dtype} |
| trained part | LoRA on all linear layers, rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout} |
| data | `{config.data}`: {lists["train"]} training and {lists["valid"]} validation lists, {len(data.items)} products |
| loss | {config.loss}, candidates {config.candidates} |
| steps | {state.global_step}, {size} lists each, learning rate {optimiser.learning_rate} |
| seed | {config.seed} |
| prompt | {config.prompt.template}, {config.prompt.language}; item fields: {", ".join(config.prompt.fields)} |

The exact config is in `config.yaml`, the prompt and its fingerprint in `reshelf.json`.

## Validation

The checkpoint with the best nDCG@10 was kept: step {state.best_global_step}, {state.best_metric:.4f}.

| step | loss | nDCG@10 |
|---|---|---|
{rows}

![Loss and nDCG@10]({CURVE_PLOT})

## Limits

It knows the shop and the time it was trained on. It was validated on lists whose shoppers were logged in the same shop;
measure it on your own before showing it to anyone. Text in products can move its score like any other text.
"""
    with atomic(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")

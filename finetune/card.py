"""What a training run leaves for people: the curve as a picture and as numbers, and a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reshelf.data.atomic import atomic
from reshelf.data.dataset_folder import RankingData
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.validation import ERROR, METRIC, Metric
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.lift import Lift

CURVE, CURVE_PLOT, CARD = "curve.json", "curve.png", "README.md"
METRIC_NAMES: dict[Metric, str] = {"ndcg@10": "nDCG@10", "auc": "AUC"}
"""As people write them."""


def write_curve(folder: Path, log: Sequence[dict[str, Any]], metric: Metric = "ndcg@10") -> None:
    """`curve.json`: training loss by step and validation figures; `curve.png`: the same to look at."""
    train = [{"step": e["step"], "loss": e["loss"]} for e in log if "loss" in e]
    measured = {"loss": "eval_loss", metric: f"eval_{metric}", metric + ERROR: f"eval_{metric}{ERROR}"}
    valid = [{"step": e["step"]} | {name: e[key] for name, key in measured.items()} for e in log if METRIC in e]
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
    left.set(xlabel="optimizer step", ylabel="loss")
    left.legend(frameon=False)
    steps, values, errors = ([e[name] for e in valid] for name in ("step", metric, metric + ERROR))
    right.errorbar(steps, values, errors, fmt="o-", color="tab:orange", ecolor="0.75", capsize=3)
    right.set(xlabel="optimizer step", ylabel=f"{METRIC_NAMES[metric]} on valid ± standard error")
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


def _loss(config: FinetuneConfig) -> str:
    distil = config.distil
    if not distil.feature:
        return config.loss
    how = f"{distil.loss}, temperature {distil.temperature}" if distil.loss == "kl" else distil.loss
    return f"{1 - distil.weight:g} × {config.loss} + {distil.weight:g} × distillation ({how}) from `{distil.feature}`"


def _scale(config: FinetuneConfig) -> str:
    if config.loss == "bce":
        return "It was trained to be one scale for all lists."
    return "Only differences within one list mean anything."


def _correction(config: FinetuneConfig) -> str:
    if config.propensities is None:
        return "not corrected for"
    limit = f"at most {config.max_inverse_propensity:g}"
    return f"labels weighted by inverse propensity, {limit}, from `{config.propensities}`"


def _changes(config: FinetuneConfig) -> str:
    made = {name: value for name, value in asdict(config.augment).items() if value}
    if not config.prompt.features:
        made.pop("feature_dropout", None)
    return ", ".join(f"{name} {value}" for name, value in made.items()) or "none"


def _calibrated(config: FinetuneConfig, calibration: Calibration | None) -> str:
    if calibration is not None:
        return f"{calibration.method}, on all candidates of the validation lists"
    return "none" if config.calibration == "none" else "none: all validation candidates had the same outcome"


def write_card(
    folder: Path,
    config: FinetuneConfig,
    data: RankingData,
    state: Any,
    processes: int,
    calibration: Calibration | None = None,
    lift: Lift | None = None,
) -> None:
    """The model card: what it was trained over and on, how, and how well it orders the validation lists."""
    valid = [entry for entry in state.log_history if METRIC in entry]
    metric, value = METRIC_NAMES[config.metric], f"eval_{config.metric}"
    rows = "\n".join(f"| {e['step']} | {e['eval_loss']:.4f} | {e[value]:.4f} |" for e in valid)
    meaning = "is not a calibrated probability"
    if calibration is not None:
        meaning += ", but `probability` of a ranked item is made from it by what validation lists showed"
    lora, optimizer = config.lora, config.optimizer
    lists = {split: len(data.lists[split]) for split in ("train", "valid")}
    size = optimizer.lists_per_step * optimizer.accumulation * processes
    quantised = "4-bit NF4, double quantised (bitsandbytes)" if config.model.quantise else "not quantised"
    text = f"""---
library_name: reshelf
base_model: {config.model.base}
pipeline_tag: text-ranking
---

# A reranker finetuned with Reshelf

It reads a shopper's history, a query and a product, and answers with logit({config.prompt.positive}) −
logit({config.prompt.negative}): higher means this shopper will want it more. {_scale(config)}
The number {meaning}.

    from reshelf import Reranker
    reranker = Reranker.from_pretrained("{folder}")

## Training

| | |
|---|---|
| base | `{config.model.base}`, {quantised}, {config.model.dtype} |
| trained part | LoRA on all linear layers, rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout} |
| data | `{config.data}`: {lists["train"]} training and {lists["valid"]} validation lists, {len(data.items)} products |
| loss | {_loss(config)}, candidates {config.candidates} |
| position bias | {_correction(config)} |
| random changes | {_changes(config)} |
| calibration | {_calibrated(config, calibration)} |
| steps | {state.global_step}, {size} lists each, learning rate {optimizer.learning_rate} |
| seed | {config.seed} |
| prompt | {config.prompt.template}, {config.prompt.language}; item fields: {", ".join(config.prompt.fields)} |

The exact config is in `config.yaml`, the prompt and its fingerprint in `reshelf.json`.

## Validation

Of the checkpoints within a standard error of the best {metric}, the one of the lowest loss was kept: step
{state.best_global_step}, {state.best_metric:.4f}.
{"" if lift is None else lift.sentence()}

| step | loss | {metric} |
|---|---|---|
{rows}

![Loss and {metric}]({CURVE_PLOT})

## Limits

It knows the shop and the time it was trained on. It was validated on lists whose shoppers were logged in the same shop;
measure it on your own before showing it to anyone. Text in products can move its score like any other text.
"""
    with atomic(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")

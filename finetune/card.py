"""What a training run leaves for people: the curve as a picture and as numbers, and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from gettext import NullTranslations
from pathlib import Path
from typing import Any

from reshelf.data.atomic import atomic, write_json
from reshelf.data.dataset_folder import RankingData
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.validation import ERROR, METRIC, METRIC_NAMES, Metric
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.lift import Lift
from reshelf.translation import translations

CURVE, CURVE_PLOT, CARD = "curve.json", "curve.png", "README.md"


def write_curve(folder: Path, log: Sequence[dict[str, Any]], metric: Metric = "ndcg@10") -> None:
    """`curve.json`: training loss by step and validation figures; `curve.png`: the same to look at."""
    train = [{"step": e["step"], "loss": e["loss"]} for e in log if "loss" in e]
    measured = {"loss": "eval_loss", metric: f"eval_{metric}", metric + ERROR: f"eval_{metric}{ERROR}"}
    valid = [{"step": e["step"]} | {name: e[key] for name, key in measured.items()} for e in log if METRIC in e]
    write_json(folder / CURVE, {"train": train, "valid": valid})
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


def _smooth(points: Sequence[dict[str, float]]) -> tuple[list[float], list[float]]:
    """Steps, and means of the 20 losses up to each."""
    rows = range(20, len(points) + 1)
    return [points[n - 1]["step"] for n in rows], [sum(p["loss"] for p in points[n - 20 : n]) / 20 for n in rows]


def _loss(config: FinetuneConfig, say: NullTranslations) -> str:
    distil, _ = config.distil, say.gettext
    if not distil.feature:
        return config.loss
    how: str = distil.loss
    if distil.loss == "kl":
        how = _("kl, temperature {temperature}").format(temperature=distil.temperature)
    text = _("{rest:g} × {loss} + {weight:g} × distillation ({how}) from `{feature}`")
    weight = distil.weight
    return text.format(rest=1 - weight, loss=config.loss, weight=weight, how=how, feature=distil.feature)


def _correction(config: FinetuneConfig, say: NullTranslations) -> str:
    if config.propensities is None:
        return say.gettext("not corrected for")
    text = say.gettext("labels weighted by inverse propensity, at most {most:g}, from `{file}`")
    return text.format(most=config.max_inverse_propensity, file=config.propensities)


def _changes(config: FinetuneConfig, say: NullTranslations) -> str:
    made = {name: value for name, value in asdict(config.augment).items() if value}
    if not config.prompt.features:
        made.pop("feature_dropout", None)
    return ", ".join(f"{name} {value}" for name, value in made.items()) or say.gettext("none")


def _calibrated(config: FinetuneConfig, calibration: Calibration | None, say: NullTranslations) -> str:
    if calibration is not None:
        return say.gettext("{method}, on all candidates of the validation lists").format(method=calibration.method)
    if config.calibration == "none":
        return say.gettext("none")
    return say.gettext("none: all validation candidates had the same outcome")


def _facts(
    config: FinetuneConfig, data: RankingData, steps: int, processes: int, calibration: Calibration | None,
    say: NullTranslations,
) -> dict[str, str]:  # fmt: skip
    """What a model was trained over, on what and how: rows of the card's table."""
    _ = say.gettext
    lora, optimizer, prompt = config.lora, config.optimizer, config.prompt
    quantised = _("4-bit NF4, double quantised (bitsandbytes)") if config.model.quantise else _("not quantised")
    return {
        _("base"): f"`{config.model.base}`, {quantised}, {config.model.dtype}",
        _("trained part"): _("LoRA on all linear layers, rank {rank}, alpha {alpha}, dropout {dropout}").format(
            rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout
        ),
        _("data"): _("`{data}`: {train} training and {valid} validation lists, {items} products").format(
            data=config.data, train=len(data.lists["train"]), valid=len(data.lists["valid"]), items=len(data.items)
        ),
        _("loss"): f"{_loss(config, say)}, candidates {config.candidates}",
        _("position bias"): _correction(config, say),
        _("random changes"): _changes(config, say),
        _("calibration"): _calibrated(config, calibration, say),
        _("steps"): _("{steps}, {lists} lists each, learning rate {rate}").format(
            steps=steps, lists=optimizer.lists_per_step * optimizer.accumulation * processes,
            rate=optimizer.learning_rate,
        ),
        _("seed"): str(config.seed),
        _("prompt"): _("{template}, {language}; item fields: {fields}").format(
            template=prompt.template, language=prompt.language, fields=", ".join(prompt.fields)
        ),
    }  # fmt: skip


def _meaning(config: FinetuneConfig, calibrated: bool, say: NullTranslations) -> str:
    """What a score says, and what it does not."""
    _ = say.gettext
    does = _(
        "It reads a shopper's history, a query and a product, and answers with logit({positive}) − logit({negative}): "
        "higher means this shopper will want it more."
    ).format(positive=config.prompt.positive, negative=config.prompt.negative)
    if config.loss == "bce":
        scale = _("It was trained to be one scale for all lists.")
    else:
        scale = _("Only differences within one list mean anything.")
    if calibrated:
        probability = _(
            "The number is not a calibrated probability, but `probability` of a ranked item is made from it by what "
            "validation lists showed."
        )
    else:
        probability = _("The number is not a calibrated probability.")
    return "\n".join((does, scale, probability))


def write_card(
    folder: Path,
    config: FinetuneConfig,
    data: RankingData,
    state: Any,
    processes: int,
    calibration: Calibration | None = None,
    lift: Lift | None = None,
) -> None:
    """The model card, in the model's language: what it was trained over and on, how, and how well it orders the
    validation lists.

    Args:
        state: of the trainer when training has ended.
        processes: that trained.
    """
    say = translations(config.prompt.language)
    _ = say.gettext
    metric, value = METRIC_NAMES[config.measured_by], f"eval_{config.measured_by}"
    facts = _facts(config, data, state.global_step, processes, calibration, say)
    kept = _(
        "Of the checkpoints within a standard error of the best {metric}, the one of the lowest loss was kept: step "
        "{step}, {best:.4f}."
    ).format(metric=metric, step=state.best_global_step, best=state.best_metric)
    limits = _(
        "It knows the shop and the time it was trained on. It was validated on lists whose shoppers were logged in the "
        "same shop; measure it on your own before showing it to anyone. Text in products can move its score like any "
        "other text."
    )
    rows = [f"| {e['step']} | {e['eval_loss']:.4f} | {e[value]:.4f} |" for e in state.log_history if METRIC in e]
    parts = [
        f"---\nlibrary_name: reshelf\nbase_model: {config.model.base}\npipeline_tag: text-ranking\n---",
        f"# {_('A reranker finetuned with Reshelf')}",
        _meaning(config, calibration is not None, say),
        f'    from reshelf import Reranker\n    reranker = Reranker.from_pretrained("{config.out}")',
        f"## {_('Training')}",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())]),
        _("The exact config is in `config.yaml`, the prompt and its fingerprint in `reshelf.json`."),
        f"## {_('Validation')}",
        "\n".join([kept] + ([] if lift is None else [lift.sentence(config.prompt.language)])),
        "\n".join([f"| {_('step')} | {_('loss')} | {metric} |", "|---|---|---|", *rows]),
        f"![{_('Loss and {metric}').format(metric=metric)}]({CURVE_PLOT})",
        f"## {_('Limits')}",
        limits,
    ]
    with atomic(folder / CARD) as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8")

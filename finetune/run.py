"""`reshelf finetune`: from a data set folder to a reranker folder.

    reshelf finetune --config finetune/demo.yaml

A run that was cut short goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed

from reshelf.config import config_text
from reshelf.data.atomic import atomic, check_writable, finish_replacing, locked_folder
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.propensity.file import read_propensities
from reshelf.data.signals.kept import FOLDER, copy_signals, kept_names
from reshelf.errors import InputError
from reshelf.finetune.batches import Extras, ListDataset
from reshelf.finetune.card import CARD, write_card, write_curve
from reshelf.finetune.config import DistilConfig, FinetuneConfig
from reshelf.finetune.distributed import gather_adapter, is_spread, together
from reshelf.finetune.losses.bce import bce
from reshelf.finetune.losses.kl import kl
from reshelf.finetune.losses.lambda_loss import lambda_loss
from reshelf.finetune.losses.list_mle import list_mle, position_aware_list_mle
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.losses.margin_mse import margin_mse
from reshelf.finetune.losses.ranknet import ranknet
from reshelf.finetune.losses.teacher_bce import teacher_bce
from reshelf.finetune.losses.weighted_sum import LossSum
from reshelf.finetune.packed_trainer import packed_arguments
from reshelf.finetune.resume import (
    CHECKPOINTS,
    LEFT,
    check_unchanged,
    fingerprint,
    has_begun,
    remove_checkpoints,
    write_begun,
)
from reshelf.finetune.trainer import ListTrainer, Teaching, Watched
from reshelf.finetune.validation import METRIC_NAMES, Validation
from reshelf.modeling.base_checks import check_budgets
from reshelf.modeling.calibration import Calibration, fit_calibration
from reshelf.modeling.checkpoint import replacing_reranker, save_reranker
from reshelf.modeling.loading import add_lora, check_base_exists, load_base
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import SPEC_FILE, RerankerSpec
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import SIGNALS, PromptConfig
from reshelf.prompts.levels import FeatureLevels, fit_levels

LOSSES: dict[str, Callable[..., LossSum]] = {
    "listnet": listnet,
    "bce": bce,
    "ranknet": ranknet,
    "lambda": lambda_loss,
    "list_mle": list_mle,
    "position_list_mle": position_aware_list_mle,
}
CONFIG = "config.yaml"


def is_finished(folder: Path) -> bool:
    """Whether `finetune` has ended there: the card is written last, and then the checkpoints go."""
    return (folder / SPEC_FILE).is_file() and (folder / CARD).is_file() and not has_begun(folder)


def finetune(
    config: FinetuneConfig,
    watch: Callable[[int, float], None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> float:
    """Train, keep a checkpoint (`checkpoint_choice`), calibrate it, and write the reranker folder.

    Under `accelerate launch` every process calls this; the main one writes.

    Args:
        watch: called with the step and the metric at each validation; what it raises ends the run.
        callbacks: more of transformers' callbacks.

    Returns:
        The metric of the kept checkpoint on the validation lists.

    Raises:
        InputError: the data, the model or the output folder cannot be used, or the folder holds another run or, without
            `overwrite`, a finished one, or another process trains there.
        DivergedError: loss, gradients or scores became NaN or infinite; checkpoints before that are kept.
    """
    arguments = _arguments(config)
    run = together(lambda: _prepare(config, arguments))
    if watch is not None:
        run.trainer.add_callback(Watched(watch, config.measured_by))
    for callback in callbacks:
        run.trainer.add_callback(callback)
    with ExitStack() as alone:
        if_main = locked_folder(config.out, "training") if arguments.process_index == 0 else nullcontext()
        together(lambda: alone.enter_context(if_main))
        together(partial(_check_unfinished, config))  # who held it may have ended since
        return _train(run)


@dataclass(frozen=True)
class _Prepared:
    """A run before its first step."""

    config: FinetuneConfig
    """In the catalogue's language."""
    data: RankingData
    tokenizer: PreTrainedTokenizerBase
    levels: FeatureLevels
    validation: Validation
    trainer: ListTrainer


def _train(run: _Prepared) -> float:
    """From the first step to the folder; `finetune` says more."""
    config, trainer = run.config, run.trainer
    arguments = trainer.args
    main = arguments.process_index == 0
    if main:
        if not (config.out / SPEC_FILE).exists():  # a reranker keeps its own until it is replaced
            _write_config(config.out, config)
        write_begun(config.out, fingerprint(config, arguments.world_size))
    trainer.train_or_resume()
    scores = trainer.validation_scores()
    calibration, lift = _calibration(config, run.validation, scores), run.validation.lift(scores)
    model = trainer.accelerator.unwrap_model(trainer.model)
    gather_adapter(model)
    if main:
        spec = RerankerSpec(
            config.model, config.prompt, run.levels, config.candidates, calibration=calibration, lift=lift
        )
        with replacing_reranker(config.out, without=(FOLDER, *LEFT)) as folder:
            _write_config(folder, config)
            computed = copy_signals(config.data / FOLDER, folder / FOLDER, config.prompt.features)
            save_reranker(folder, model, run.tokenizer, spec)
            write_curve(folder, trainer.state.log_history, config.measured_by)
            write_card(folder, config, run.data, trainer.state, arguments.world_size, calibration, lift)
        remove_checkpoints(config.out)
        kept = f"{METRIC_NAMES[config.measured_by]} {trainer.state.best_metric:.4f}"
        print(f"{config.out}: kept the checkpoint of step {trainer.state.best_global_step}, valid {kept}")
        if sent := [name for name in config.prompt.features if name not in computed]:
            what = "are ranked without it" if run.levels.may_lack(len(sent)) else "stay in first-stage order"
            print(
                f"{config.out}: {config.data} does not keep what {', '.join(sent)} is computed from; requests that do "
                f"not send it {what}"
            )
        if lift is not None:
            print(lift.sentence(config.prompt.language))
    trainer.accelerator.wait_for_everyone()
    return trainer.state.best_metric or 0.0


def _write_config(folder: Path, config: FinetuneConfig) -> None:
    with atomic(folder / CONFIG) as partial:
        partial.write_text(config_text(config), encoding="utf-8")


def _prepare(config: FinetuneConfig, arguments: TrainingArguments) -> _Prepared:
    """Everything that can find bad input, and the config in the catalogue's language; writes nothing."""
    check_base_exists(config.model.base, config.model.revision)
    finish_replacing(config.out)
    check_writable(config.out)
    _check_unfinished(config)
    extras = Extras(
        config.distil.feature,
        None if config.propensities is None else read_propensities(config.propensities),
        config.max_inverse_propensity,
        config.augment,
        config.hard_negatives,
    )
    data = load_dataset_folder(config.data, ("train", "valid"))
    _cut(data, config)
    config = replace(config, prompt=_with_signals(config).in_language_of(data.items.values()))
    check_unchanged(config.out, fingerprint(config, arguments.world_size))
    set_seed(config.seed)
    model, tokenizer = load_base(config.model, str(arguments.device), is_spread())
    try:
        dropout = config.augment.feature_dropout > 0
        levels = fit_levels(data.lists["train"], config.prompt.features, config.prompt.levels, missing=dropout)
    except InputError as error:
        cure = "add it to signals.names in the mapping and import again, or leave it out of prompt.features"
        raise InputError(f"{config.data}: {error}; {cure}") from error
    for name in config.prompt.context:
        if not any(ranking.context.get(name) for ranking in data.lists["train"]):
            raise InputError(f"prompt.context: no training list of {config.data} has a {name}; map it, or leave it out")
    builder = PromptBuilder(tokenizer, config.prompt, data.items, levels, joint=config.candidates == "joint")
    check_budgets(builder.longest, model.config, config.model.base)
    attach_head(model, *builder.label_ids)
    train = ListDataset(data.lists["train"], builder, config.max_candidates, config.seed, extras)
    corrected = Extras(propensities=extras.propensities, max_inverse_propensity=extras.max_inverse_propensity)
    validation = Validation(ListDataset(data.lists["valid"], builder, extras=corrected), config.measured_by)
    _check_outcomes(validation, config.data / "valid.parquet")
    trainer = ListTrainer(
        add_lora(model, config.lora),
        arguments,
        train,
        validation,
        LOSSES[config.loss],
        config.patience,
        _teaching(config.distil),
    )
    return _Prepared(config, data, tokenizer, levels, validation, trainer)


def _check_unfinished(config: FinetuneConfig) -> None:
    if (config.out / SPEC_FILE).exists() and not has_begun(config.out) and not config.overwrite:
        raise InputError(
            f"{config.out} holds a finished reranker; give --overwrite to train over it, or choose another --out"
        )


def _with_signals(config: FinetuneConfig) -> PromptConfig:
    kept = kept_names(config.data / FOLDER)
    if SIGNALS in config.prompt.features and not kept:
        raise InputError(
            f"{config.data} keeps no signals; name some in the mapping (signals.names) and import again, or leave "
            f"{SIGNALS} out of prompt.features"
        )
    return config.prompt.with_signals(kept)


def _teaching(config: DistilConfig) -> Teaching | None:
    if not config.feature:
        return None
    if config.loss == "bce":
        return Teaching(teacher_bce, config.weight)
    loss = partial(kl, temperature=config.temperature) if config.loss == "kl" else margin_mse
    return Teaching(loss, config.weight)


def _check_outcomes(validation: Validation, path: Path) -> None:
    """What the metric cannot do without."""
    if not any(example.labels.any() for example in validation.examples):
        raise InputError(f"{path}, field labels: no list has a label above 0; validation needs some")
    if validation.metric == "auc" and all(example.labels.all() for example in validation.examples):
        raise InputError(f"{path}, field labels: all are above 0; give candidates with label 0, which metric auc needs")


def _calibration(config: FinetuneConfig, validation: Validation, scores: list[np.ndarray]) -> Calibration | None:
    """Fitted to what the best model says of all validation lists; None where none is wanted or outcomes do not vary.

    Lists without a positive label are in it too: a shopper who wants nothing is an outcome.
    """
    if config.calibration == "none":
        return None
    wanted = np.concatenate([example.labels > 0 for example in validation.every])
    if wanted.all() or not wanted.any():
        return None
    return fit_calibration(np.concatenate(scores), wanted, config.calibration)


def _cut(data: RankingData, config: FinetuneConfig) -> None:
    """Keep the number of lists asked for; in those without a positive label, only bce and a teacher teach anything."""
    for split, limit in (("train", config.train_lists), ("valid", config.valid_lists)):
        lists = data.lists[split]
        if split == "train" and not config.distil.feature and config.loss != "bce":
            lists = [ranking for ranking in lists if ranking.labels is None or any(ranking.labels)]
        data.lists[split] = lists[:limit] if limit else lists
        if not data.lists[split]:
            raise InputError(f"{config.data / f'{split}.parquet'}, field labels: no list has a label above 0")


def _arguments(config: FinetuneConfig) -> TrainingArguments:
    optimizer = config.optimizer
    # Newer releases of transformers call it activation checkpointing, and warn of the older name.
    fields = TrainingArguments.__dataclass_fields__
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in fields else "gradient_checkpointing"
    return packed_arguments(
        output_dir=str(config.out / CHECKPOINTS),
        per_device_train_batch_size=optimizer.lists_per_step,
        per_device_eval_batch_size=optimizer.lists_per_step,
        gradient_accumulation_steps=optimizer.accumulation,
        num_train_epochs=optimizer.epochs,
        max_steps=optimizer.max_steps or -1,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=optimizer.warmup_share,
        weight_decay=optimizer.weight_decay,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=config.eval_every,
        save_strategy="steps",
        save_steps=config.eval_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{config.measured_by}",
        greater_is_better=True,
        seed=config.seed,
        data_seed=config.seed,
        report_to=config.report_to or "none",
        **{checkpointing: optimizer.gradient_checkpointing, f"{checkpointing}_kwargs": {"use_reentrant": False}},
    )

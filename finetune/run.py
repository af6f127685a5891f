"""`reshelf finetune`: from a data set folder to a reranker folder.

    reshelf finetune --config finetune/demo.yaml

A run that was cut short goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import shutil

from transformers import TrainingArguments, set_seed

from reshelf.data.store import RankingData, atomic, check_writable, load_dataset_folder
from reshelf.errors import InputError
from reshelf.finetune.batches import ListDataset
from reshelf.finetune.card import write_card, write_curve
from reshelf.finetune.config import FinetuneConfig, config_text
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.packed_trainer import packed_arguments
from reshelf.finetune.trainer import ListTrainer
from reshelf.finetune.validation import METRIC, Validation
from reshelf.modeling.checkpoint import RerankerSpec, save_reranker
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.score import attach_head
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.levels import fit_levels

LOSSES = {"listnet": listnet}
CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"


def finetune(config: FinetuneConfig) -> None:
    """Train, keep the best checkpoint by nDCG@10, and write the reranker folder.

    Raises:
        InputError: the data, the model or the output folder cannot be used, or the folder holds another run.
    """
    check_writable(config.out)
    data = load_dataset_folder(config.data, ("train", "valid"))
    _cut(data, config)
    _check_unfinished(config)
    set_seed(config.seed)
    model, tokenizer = load_base(config.model)
    levels = fit_levels(data.lists["train"], config.prompt.features)
    builder = PromptBuilder(tokenizer, config.prompt, data.items, levels)
    attach_head(model, *builder.label_ids)
    train = ListDataset(data.lists["train"], builder, config.max_candidates, config.seed)
    validation = Validation(ListDataset(data.lists["valid"], builder))
    if not validation.examples:
        raise InputError(f"{config.data / 'valid.parquet'}, field labels: no list has a label above 0")
    with atomic(config.out / CONFIG) as partial:
        partial.write_text(config_text(config), encoding="utf-8")
    trainer = ListTrainer(
        add_lora(model, config.lora),
        _arguments(config),
        train,
        validation,
        LOSSES[config.loss],
        config.candidates == "joint",
        config.patience,
    )
    trainer.train_or_resume()
    spec = RerankerSpec(config.model, config.prompt, levels, config.candidates)
    save_reranker(config.out, trainer.accelerator.unwrap_model(trainer.model), tokenizer, spec)
    write_curve(config.out, trainer.state.log_history)
    write_card(config.out, config, data, trainer.state)
    shutil.rmtree(config.out / CHECKPOINTS)
    best = trainer.state.best_metric
    print(f"{config.out}: best valid nDCG@10 {best:.4f} at step {trainer.state.best_global_step}")


def _cut(data: RankingData, config: FinetuneConfig) -> None:
    """Keep the number of lists asked for; training lists without a positive label teach nothing."""
    for split, limit in (("train", config.train_lists), ("valid", config.valid_lists)):
        lists = data.lists[split]
        if split == "train":
            lists = [ranking for ranking in lists if ranking.labels is None or any(ranking.labels)]
        data.lists[split] = lists[:limit] if limit else lists
        if not data.lists[split]:
            raise InputError(f"{config.data / f'{split}.parquet'}, field labels: no list has a label above 0")


def _check_unfinished(config: FinetuneConfig) -> None:
    """An unfinished run in the output folder must have the same config."""
    path = config.out / CONFIG
    if (
        (config.out / CHECKPOINTS).is_dir()
        and path.is_file()
        and path.read_text(encoding="utf-8") != config_text(config)
    ):
        raise InputError(
            f"{config.out} holds an unfinished run with another config ({path}); finish it, delete the folder, "
            "or choose another --out"
        )


def _arguments(config: FinetuneConfig) -> TrainingArguments:
    optimiser = config.optimiser
    return packed_arguments(
        output_dir=str(config.out / CHECKPOINTS),
        per_device_train_batch_size=optimiser.lists_per_step,
        per_device_eval_batch_size=max(8, optimiser.lists_per_step),
        gradient_accumulation_steps=optimiser.accumulation,
        num_train_epochs=optimiser.epochs,
        max_steps=optimiser.max_steps or -1,
        learning_rate=optimiser.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=optimiser.warmup_share,
        weight_decay=optimiser.weight_decay,
        gradient_checkpointing=optimiser.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=config.eval_every,
        save_strategy="steps",
        save_steps=config.eval_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        seed=config.seed,
        data_seed=config.seed,
        report_to=config.report_to or "none",
    )

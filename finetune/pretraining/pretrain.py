"""`reshelf pretrain`: a small Qwen3 language model of a shop's catalogue and sessions, from nothing, without the Hub.

    reshelf pretrain --config finetune/pretrain_marketplace.yaml
    reshelf pretrain --config finetune/pretrain_shop.yaml --start finetune/bases/marketplace    # go on from a base

It learns to tell what a shopper will do with a product from what they did before: in-context matching. The answer words
of finetuning (yes, no) mean nothing to it yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import yaml
from torch.utils.data import Dataset
from transformers import (
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from reshelf.config import config_text
from reshelf.data.atomic import as_readable_as_others, atomic, check_writable, locked_folder
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig
from reshelf.errors import InputError
from reshelf.finetune.packed_trainer import PackedTrainer, packed_arguments
from reshelf.finetune.pretraining.any_words import InOtherWords, others, read_base, take_layers
from reshelf.finetune.pretraining.init import keep_embeddings, keep_levels_in_order, start_with_matching
from reshelf.finetune.pretraining.muon import MuonAdamW
from reshelf.finetune.pretraining.session_text import (
    Candidates,
    LoggedSource,
    SessionSource,
    SessionStream,
    SimulatedSource,
    Text,
    TextBatch,
    collate_outcomes,
    collate_text,
    vocabulary_text,
)
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.finetune.progress import LossProgress
from reshelf.finetune.resume import (
    CHECKPOINTS,
    check_unchanged,
    has_begun,
    made_of,
    remove_checkpoints,
    write_begun,
)
from reshelf.modeling.attention import SHARED_PREFIX
from reshelf.modeling.fused import compute_fused
from reshelf.modeling.score import logits_at
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import level_text
from reshelf.ranges import AT_LEAST_0, AT_LEAST_1, POSITIVE, SEED, Range, check_numbers

WORD_WEIGHT = 0.5
"""Weight of the next-token loss on histories and catalogue beside the loss on outcomes."""


@dataclass
class ShapeConfig:
    """Size of the model."""

    hidden: int = 128
    """Width; a multiple of 64, so that 4-bit blocks fill up."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 4
    """Attention heads, at least 2."""
    intermediate: int = 384
    """Width of the feed-forward layers; a multiple of 64."""
    vocabulary: int = 2048
    """Most tokens of the tokenizer; at least 300."""

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("hidden", "layers", "intermediate"), AT_LEAST_1)
        check_numbers(self, {**sizes, "heads": Range(2), "vocabulary": Range(300)}, "shape.")
        if self.hidden % (2 * self.heads):
            raise InputError(
                f"shape.hidden is {self.hidden}, which {self.heads} heads (shape.heads) cannot share evenly; give "
                f"a multiple of {2 * self.heads}"
            )


@dataclass
class PretrainConfig:
    """Pretrain a small base LM."""

    out: Path
    """Folder for the model, its tokenizer and its card. A run that was cut short goes on from its last checkpoint."""
    data: Path | None = None
    """Data set folder whose training lists are read; without one, simulated shops."""
    shops: int = 8
    """Simulated shops, each with its own catalogue (seeds seed + 1000, seed + 1001, …); unused with `data`."""
    marketplace: MarketplaceConfig = field(default_factory=MarketplaceConfig)
    """What the simulated shops are like; unused with `data`."""
    languages: list[Literal["en", "zh"]] = field(default_factory=list)
    """Of the simulated shops, in turn; default: that of `marketplace`."""
    prompt: PromptConfig = field(default_factory=lambda: PromptConfig(template="plain", event_gaps=False))
    """How sessions are written: use the prompt that finetuning will use."""
    start: str = ""
    """Base to go on from, a folder or a Hub id, with its tokenizer; empty for a new one."""
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    """Size of a new model."""
    layers: Path | None = None
    """Folder of a base of that shape whose layers a new model begins with, over a tokenizer of its own:
    finetune/bases/matching, which ships, matches whatever the words are."""
    other_words: bool = False
    """Read every session in other words, drawn at random, to make such layers."""
    texts: int = 60_000
    """Sessions and catalogue texts to read, all in all."""
    max_candidates: int = 0
    """Products of a session: all that were clicked or bought, and others drawn at random; 0 for all."""
    candidates: Candidates = "independent"
    """What products of a session are judged behind: the history and the query, also the list (joint, for rerankers with
    `candidates: joint`), or one and the other in turn (both)."""
    texts_per_step: int = 8
    """Texts per optimizer step."""
    learning_rate: float = 4e-3
    """Highest learning rate of Muon and AdamW; after 200 steps it falls to 0 in a straight line."""
    save_every: int = 500
    """Optimizer steps between checkpoints."""
    seed: int = 0
    """The same seed gives the same model."""

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("shops", "texts", "texts_per_step", "save_every"), AT_LEAST_1)
        check_numbers(self, {**sizes, "max_candidates": AT_LEAST_0, "learning_rate": POSITIVE, "seed": SEED})
        if self.start and self.layers is not None:
            raise InputError("start has layers of its own; leave out layers, or start")
        if self.prompt.level_format == "letter" and not self.start:
            raise InputError("prompt.level_format: a new base reads a number as one token; leave it at number")
        if self.texts < self.texts_per_step:
            raise InputError(
                f"texts is {self.texts}, and one step reads {self.texts_per_step} (texts_per_step); give more"
            )


class TextTrainer(PackedTrainer):
    """Next-token loss on the texts plus cross-entropy of the outcome words."""

    def compute_loss(  # type: ignore[override]
        self, model: Any, inputs: TextBatch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        learned = torch.nonzero((inputs.words >= 0) | (inputs.outcomes >= 0))[:, 0]
        logits = logits_at(model, inputs.packed, learned)
        targets = ((WORD_WEIGHT, inputs.words[learned]), (1.0, inputs.outcomes[learned]))
        losses = [weight * F.cross_entropy(logits, ids) for weight, ids in targets if bool((ids >= 0).any())]
        return torch.stack(losses).sum()


def new_model(
    shape: ShapeConfig,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    levels: int = PromptConfig.levels,
    layers: Path | None = None,
) -> Qwen3ForCausalLM:
    """A Qwen3 that is ready to match, and to read levels 0 … `levels`, untrained (`finetune.pretraining.init`) or with
    the layers of a base (`finetune.pretraining.any_words`)."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config._attn_implementation = SHARED_PREFIX
    model = Qwen3ForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    if layers is None:
        start_with_matching(model, generator)
    else:
        take_layers(model, tokenizer, layers, generator)
    written = {level: tokenizer(level_text(level), add_special_tokens=False).input_ids for level in range(levels + 1)}
    if len(tokens := {level: ids[0] for level, ids in written.items() if len(ids) == 1}) > 1:
        keep_levels_in_order(model, tokens, generator)
    return model


def pretrain(config: PretrainConfig, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Train the tokenizer and the model, and write the folder.

    Args:
        callbacks: more of transformers' callbacks.

    Raises:
        InputError: the data or the output folder cannot be used, the folder already holds a model or another
            unfinished run, or the base to start from cannot be read or has no single token for an outcome.
    """
    if (config.out / "config.json").exists() and not has_begun(config.out):
        raise InputError(f"{config.out} already holds a model; delete it or choose another --out")
    check_writable(config.out)
    arguments = _arguments(config)
    if arguments.world_size > 1:
        raise InputError("`reshelf pretrain` works in one process; start it without `accelerate launch`")
    set_seed(config.seed)
    sources = session_sources(config)
    if not config.languages:
        items = chain.from_iterable(source.items.values() for source in sources)
        config = replace(config, prompt=config.prompt.in_language_of(items))
    begun = _made_of(config)
    check_unchanged(config.out, begun)
    if config.start:
        model, tokenizer = read_base(config.start, str(arguments.device), "start")
    else:
        tokenizer = train_tokenizer(vocabulary_text(sources, config.prompt), config.shape.vocabulary)
        model = new_model(config.shape, tokenizer, config.seed, config.prompt.levels, config.layers)
        compute_fused(model, arguments.device)
    sessions = SessionStream(
        sources, tokenizer, config.prompt, config.texts, config.max_candidates, config.seed, config.candidates
    )
    stream: Dataset[Text] = sessions
    if config.other_words:
        tokens = others(tokenizer)
        stream = InOtherWords(sessions, tokens, config.seed)
        keep_embeddings(model, torch.from_numpy(tokens))
    trainer = TextTrainer(
        model=model,
        args=arguments,
        train_dataset=stream,
        data_collator=collate_outcomes if config.other_words else collate_text,
        callbacks=[LossProgress("pretraining"), *callbacks],
        optimizers=(MuonAdamW(model, config.learning_rate), None),
    )
    with locked_folder(config.out, "training"):
        write_begun(config.out, begun)
        trainer.train_or_resume()
        model.config._attn_implementation = "sdpa"
        tokenizer.save_pretrained(config.out)
        model.save_pretrained(config.out, safe_serialization=True)
        as_readable_as_others(config.out)
        last_loss = next(entry["loss"] for entry in reversed(trainer.state.log_history) if "loss" in entry)
        with atomic(config.out / "README.md") as partial:
            partial.write_text(_card(config, last_loss), encoding="utf-8")
        remove_checkpoints(config.out)
        size = sum(p.numel() for p in model.parameters())
        read = trainer.state.global_step * config.texts_per_step
        print(f"{config.out}: {size / 1e6:.1f} M parameters, {len(tokenizer)} tokens, {read} texts read")


def _made_of(config: PretrainConfig) -> dict[str, str]:
    """What is trained on what; a finished data set or base is its contents, wherever it lies."""
    settings = yaml.safe_load(config_text(config))
    for place in ("out", "data", "start", "layers"):
        settings.pop(place)
    settings["marketplace"].pop("out")
    base = config.start or str(config.layers or "")
    names = () if config.data is None else ("items.parquet", "train.parquet")
    return made_of(settings, {f"data {name}": Path(config.data or "", name) for name in names}, base)


def session_sources(config: PretrainConfig) -> list[SessionSource]:
    """The data set, or simulated shops that each have a catalogue of their own."""
    if config.data is not None:
        return [LoggedSource(load_dataset_folder(config.data, ("train",)))]
    languages = config.languages or [config.marketplace.language]
    shops = [replace(config.marketplace, language=languages[n % len(languages)]) for n in range(config.shops)]
    return [SimulatedSource(shop, config.seed + 1000 + n) for n, shop in enumerate(shops)]


def _arguments(config: PretrainConfig) -> TrainingArguments:
    return packed_arguments(
        output_dir=str(config.out / CHECKPOINTS),
        per_device_train_batch_size=config.texts_per_step,
        max_steps=config.texts // config.texts_per_step,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=min(200, config.texts // config.texts_per_step // 10),
        max_grad_norm=1.0,
        logging_steps=10,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=1,
        seed=config.seed,
        report_to="none",
    )


def _card(config: PretrainConfig, loss: float) -> str:
    source = f"the training lists of `{config.data}`" if config.data else f"{config.shops} simulated shops"
    shape = config.shape
    if config.start:
        made = f"Trained from `{config.start}`, with its tokenizer,"
    else:
        begun = "nothing" if config.layers is None else f"the layers of `{config.layers}`"
        made = (
            f"Qwen3 architecture, {shape.layers} layers of width {shape.hidden}, with its own byte-level BPE "
            f"tokenizer, trained from\n{begun}"
        )
    if config.other_words:
        read = (
            f"sessions of {source}, each in words of its own,\ndrawn at random. So it knows no words but those of the "
            "templates: its layers are for models of other words\n(`--layers`), which need no more than embeddings."
        )
    else:
        read = f"catalogue and session text of {source}."
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# A small base language model

{made} on {read}
{config.texts} texts were read; the last training loss was {loss:.3f}.

It knows how sessions go on (passed, clicked, carted, bought) and has never been asked to answer yes or no: that is
what `reshelf finetune` teaches. A base of simulated shops holds nobody's data and has the project's licence,
Apache-2.0; another has whatever licence its data allows.

Made by `reshelf pretrain --config config.yaml` with this config:

```yaml
{config_text(config)}```
"""

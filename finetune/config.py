"""The config of `reshelf finetune`; every YAML file in this folder whose name does not start with "base" is one.

reshelf finetune --config finetune/demo.yaml --optimiser.learning_rate 1e-3
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from reshelf.errors import InputError
from reshelf.modeling.loading import LoraConfig, ModelConfig
from reshelf.prompts.config import PromptConfig


@dataclass
class OptimiserConfig:
    """Steps and their size."""

    learning_rate: float = 2e-4
    """Highest learning rate of AdamW."""
    warmup_share: float = 0.05
    """Share of all steps over which the rate rises from 0; it then falls to 0 along a cosine."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    lists_per_step: int = 8
    """Lists per forward pass on one device."""
    accumulation: int = 1
    """Forward passes per optimiser step."""
    epochs: float = 1.0
    """Passes over the training lists."""
    max_steps: int = 0
    """Stop after this many optimiser steps whatever the epochs say; 0 for no such limit."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


@dataclass
class FinetuneConfig:
    """Finetune a reranker from a data set folder."""

    data: Path
    """Data set folder with train.parquet and valid.parquet."""
    out: Path
    """Folder for the trained reranker. A run that was cut short goes on from its last checkpoint there."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The pretrained model to start from."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The trained part."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """How a list is written."""
    candidates: Literal["independent", "joint"] = "independent"
    """independent: a candidate sees the prefix and itself. joint: also the candidates before it."""
    loss: Literal["listnet"] = "listnet"
    """Training loss."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Steps and their size."""
    max_candidates: int = 0
    """Candidates of a training list: all positives, and others drawn anew each epoch; 0 for all."""
    train_lists: int = 0
    """Use only the first so many training lists; 0 for all."""
    valid_lists: int = 0
    """Use only the first so many validation lists; 0 for all."""
    eval_every: int = 50
    """Optimiser steps between validations; a checkpoint is kept at each."""
    patience: int = 5
    """Stop after this many validations in a row without a better nDCG@10."""
    seed: int = 0
    """The same seed gives the same curve."""
    report_to: list[str] = field(default_factory=list)
    """Experiment trackers that transformers knows, e.g. tensorboard, wandb."""

    def __post_init__(self) -> None:
        for name in ("eval_every", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a number of at least 1")
        if self.max_candidates == 1:
            raise InputError("max_candidates is 1; a list needs two candidates to learn from, or 0 for all")


def config_text(config: Any) -> str:
    """A config dataclass as the YAML that makes it again."""
    return yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value

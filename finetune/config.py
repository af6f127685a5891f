"""The config of `reshelf finetune`; every YAML file in this folder whose name does not start with "base" is one.

reshelf finetune --config finetune/demo.yaml --optimizer.learning_rate 1e-3
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reshelf.errors import InputError
from reshelf.finetune.augment import AugmentConfig
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.prompts.config import PromptConfig
from reshelf.ranges import AT_LEAST_0, AT_LEAST_1, POSITIVE, SEED, SHARE, check_numbers


@dataclass
class OptimizerConfig:
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
    """Forward passes per optimizer step."""
    epochs: float = 1.0
    """Passes over the training lists."""
    max_steps: int = 0
    """Stop after this many optimizer steps whatever the epochs say; 0 for no such limit."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time; on one GPU several times as
    much, for then no CUDA graph is captured."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            {
                "learning_rate": POSITIVE,
                "warmup_share": SHARE,
                "weight_decay": AT_LEAST_0,
                "lists_per_step": AT_LEAST_1,
                "accumulation": AT_LEAST_1,
                "epochs": POSITIVE,
                "max_steps": AT_LEAST_0,
            },
            "optimizer.",
        )


@dataclass
class DistilConfig:
    """Learning from a teacher's scores beside the labels."""

    feature: str = ""
    """Name of the list feature that carries the teacher's scores; empty for no teacher. Training lists without a
    positive label are used too then."""
    loss: Literal["kl", "margin_mse", "bce"] = "kl"
    """kl: the teacher's softmax over the list. margin_mse: its differences between candidates, in its own scale. bce:
    its log-odds, each candidate alone."""
    weight: float = 0.5
    """Share of this loss; the rest is the loss on labels."""
    temperature: float = 1.0
    """What scores are divided by before the softmax of kl: higher lets the candidates at the bottom count."""

    def __post_init__(self) -> None:
        check_numbers(self, {"weight": SHARE, "temperature": POSITIVE}, "distil.")


@dataclass
class FinetuneConfig:
    """Finetune a reranker from a data set folder.

    Start from a shipped file (`finetune/shop.yaml`, `finetune/demo.yaml`) and change what differs; every field is also
    a flag of `reshelf finetune` and a key of its YAML.

    Examples:
        >>> from reshelf.config import parse
        >>> config = parse(FinetuneConfig, ["--config", "finetune/demo.yaml", "--lora.rank", "32", "--loss", "bce"])
        >>> config.lora.rank, config.loss, config.candidates
        (32, 'bce', 'independent')
        >>> FinetuneConfig(data=Path("runs/shop/data"), out=Path("runs/shop/model")).model.base
        'Qwen/Qwen3-Reranker-0.6B'
    """

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
    """independent: a candidate is judged behind the history and the query. joint: the list stands there too, so that it
    is judged beside all others; use max_candidates 0 then, for lists as long as those that will be ranked."""
    loss: Literal["listnet", "bce", "ranknet", "lambda", "list_mle", "position_list_mle"] = "listnet"
    """Loss on labels. listnet: softmax over the list. bce: each candidate alone, also in lists without a positive.
    ranknet: pairs. lambda: pairs, by what they are worth to nDCG. list_mle: likelihood of the order; position_list_mle:
    the first places above all."""
    distil: DistilConfig = field(default_factory=DistilConfig)
    """Learning from a teacher."""
    propensities: Path | None = None
    """File of how likely shoppers examine each shown place (`reshelf data propensities`): clicks at places that few
    examine count more, in training and in validation. None for no correction."""
    max_inverse_propensity: float = 10.0
    """No click counts more than this many times."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes to training lists."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Steps and their size."""
    max_candidates: int = 0
    """Candidates of a training list: all positives, and others drawn anew each epoch; 0 for all."""
    hard_negatives: float = 0.0
    """With max_candidates: share of those others that the first stage put highest, which are the hardest to tell from
    what was wanted; the rest is drawn at random."""
    train_lists: int = 0
    """Use only the first so many training lists; 0 for all."""
    valid_lists: int = 0
    """Use only the first so many validation lists; 0 for all."""
    eval_every: int = 50
    """Optimizer steps between validations; a checkpoint is kept at each."""
    metric: Literal["ndcg@10", "auc"] = "ndcg@10"
    """What decides which checkpoint is kept: of those within a standard error of the best, the one of the lowest
    validation loss. ndcg@10: order within lists that have a positive label; with propensities, DCG@10 weighted by
    their inverse. auc: of wanted against other candidates of
    all validation lists, for lists that hold one candidate each."""
    calibration: Literal["isotonic", "platt", "none"] = "isotonic"
    """How scores become probabilities for people, fitted on the validation lists. isotonic needs some thousand
    candidates, platt has two parameters. The order of candidates never depends on it."""
    patience: int = 5
    """Stop after this many validations in a row whose checkpoint was not kept."""
    seed: int = 0
    """The same seed gives the same curve."""
    overwrite: bool = False
    """Train again over a finished reranker in `out`. A run that was cut short goes on without it."""
    report_to: list[str] = field(default_factory=list)
    """Experiment trackers that transformers knows, e.g. tensorboard, wandb."""

    @property
    def measured_by(self) -> Literal["ndcg@10", "dcg@10", "auc"]:
        """What validation lists are measured by."""
        return "dcg@10" if self.metric == "ndcg@10" and self.propensities is not None else self.metric

    def __post_init__(self) -> None:
        counts = {"max_candidates": AT_LEAST_0, "train_lists": AT_LEAST_0, "valid_lists": AT_LEAST_0}
        at_least_1 = {"eval_every": AT_LEAST_1, "patience": AT_LEAST_1, "max_inverse_propensity": AT_LEAST_1}
        check_numbers(self, {**counts, **at_least_1, "hard_negatives": SHARE, "seed": SEED})
        if self.max_candidates == 1:
            raise InputError("max_candidates is 1; a list needs two candidates to learn from, or 0 for all")

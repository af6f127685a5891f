"""Reshelf's own trainer: a list is one sequence, full finetuning or LoRA over a 4-bit base.

python -m benchmarks.contestants.train_reshelf WORLD LISTS_PER_STEP full|lora
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from benchmarks.trainer_turns import ENDLESS, StepPerTurn
from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists
from reshelf.finetune.batches import Example
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.packed_trainer import packed_arguments
from reshelf.finetune.trainer import ListTrainer
from reshelf.finetune.validation import METRIC
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.score import attach_head


class WorkloadLists(Dataset[Example]):
    """The workload's lists; the first candidate is the one that was bought."""

    def __init__(self, folder: Path) -> None:
        self._examples = []
        for entry in read_lists(folder):
            labels = np.zeros(len(entry.items), dtype=np.int64)
            labels[0] = 3
            self._examples.append(Example(entry.prompt(), labels))

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, n: int) -> Example:
        return self._examples[n]

    def set_epoch(self, epoch: int) -> None:
        """Nothing is drawn."""


def main(folder: Path, lists_per_step: int, kind: str) -> None:
    turns = Turns()
    dtype: Any = "bfloat16" if _on_gpu() else "float32"
    model, tokenizer = load_base(ModelConfig(str(folder / BASE), quantise=kind == "lora", dtype=dtype))
    attach_head(model, *(tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no")))
    arguments = packed_arguments(
        output_dir=str(folder / "reshelf"),
        per_device_train_batch_size=lists_per_step,
        eval_strategy="steps",
        eval_steps=10**9,
        metric_for_best_model=METRIC,
        learning_rate=1e-4,
        **ENDLESS,
    )
    dataset: Any = WorkloadLists(folder)
    validation: Any = None
    if kind == "lora":
        model = add_lora(model, LoraConfig(rank=16, alpha=32, dropout=0.05))
    trainer = ListTrainer(model, arguments, dataset, validation, listnet, patience=1)
    trainer.add_callback(StepPerTurn(turns))
    turns.ready()
    trainer.train()


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

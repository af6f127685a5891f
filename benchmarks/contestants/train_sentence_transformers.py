"""sentence-transformers: CrossEncoderTrainer with ListNetLoss over a causal LM (LogitScore on yes and no).

python -m benchmarks.contestants.train_sentence_transformers WORLD LISTS_PER_STEP
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import ListNetLoss

from benchmarks.trainer_turns import ENDLESS, StepPerTurn
from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists


def main(folder: Path, lists_per_step: int) -> None:
    turns = Turns()
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    model = CrossEncoder(str(folder / BASE), model_kwargs={"dtype": dtype}, max_length=16384)
    lists = read_lists(folder)
    data = Dataset.from_dict(
        {
            "query": [entry.prefix for entry in lists],
            "docs": [entry.texts for entry in lists],
            "labels": [[1.0, *[0.0] * (len(entry.items) - 1)] for entry in lists],
        }
    )
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder / "sentence-transformers"),
        per_device_train_batch_size=lists_per_step,
        learning_rate=1e-4,
        use_cpu=not on_gpu,
        disable_tqdm=True,
        **ENDLESS,
    )
    trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=ListNetLoss(model))
    trainer.add_callback(StepPerTurn(turns))
    turns.ready(tokens=len(model.tokenizer(lists[0].prefix, lists[0].texts[0])["input_ids"]))
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

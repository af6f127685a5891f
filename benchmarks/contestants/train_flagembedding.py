"""FlagEmbedding: its decoder-only reranker finetune (softmax over a group, logit of "Yes").

python -m benchmarks.contestants.train_flagembedding WORLD LISTS_PER_STEP

Its instruction is the list's own answer suffix and its separator is empty, so that it reads the same tokens as the
others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from FlagEmbedding.abc.finetune.reranker.AbsArguments import AbsRerankerDataArguments, AbsRerankerTrainingArguments
from FlagEmbedding.finetune.reranker.decoder_only.base import DecoderOnlyRerankerRunner, RerankerModelArguments

from benchmarks.trainer_turns import ENDLESS, StepPerTurn
from benchmarks.turns import Turns
from benchmarks.workload import BASE, read_lists


def main(folder: Path, lists_per_step: int) -> None:
    turns = Turns()
    lists = read_lists(folder)
    data = folder / "flagembedding.jsonl"
    rows = [{"query": e.prefix, "pos": e.items[:1], "neg": e.items[1:], "prompt": e.answer} for e in lists]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    runner = DecoderOnlyRerankerRunner(
        model_args=RerankerModelArguments(model_name_or_path=str(folder / BASE), use_lora=False, model_type="decoder"),
        data_args=AbsRerankerDataArguments(
            train_data=[str(data)],
            cache_path=str(folder / "cache"),
            train_group_size=len(lists[0].items),
            query_max_len=8192,
            passage_max_len=8192,
            sep_token="",
        ),
        training_args=AbsRerankerTrainingArguments(
            output_dir=str(folder / "flagembedding"),
            per_device_train_batch_size=lists_per_step,
            learning_rate=1e-4,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
            disable_tqdm=True,
            **ENDLESS,
        ),
    )
    runner.trainer.add_callback(StepPerTurn(turns))
    sample, _ = runner.train_dataset[0]
    turns.ready(tokens=len(sample[0]["input_ids"]))
    runner.trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

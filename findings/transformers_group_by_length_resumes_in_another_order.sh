#!/usr/bin/env bash
# Guess: resume_from_checkpoint in the middle of an epoch skips the batches that were trained on and goes on with the rest of that epoch's
#   order, "as if training had not been interrupted", whatever the sampling strategy.
# Happens: with train_sampling_strategy="group_by_length" that is so in the first epoch alone. In a later one the run that resumes draws the
#   order anew, skips as many batches as had been read, and goes on with the rest of another order: here, broken off after 9 of 16 batches
#   of the second epoch, 13 rows are trained on twice in that epoch and 13 not at all, and the weights are others than without the break. The
#   default strategy goes on in the same order. No warning; epoch and step look right.
# Source: transformers 5.24.0, Trainer._get_train_sampler (LengthGroupedSampler without a generator) and _run_epoch (random state restored
#   after the order is drawn); huggingface/transformers#48025 gave evaluation's sampler a seed, not this one. Save at the ends of epochs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import Qwen3Config, Qwen3ForSequenceClassification, Trainer, TrainingArguments

print("transformers", transformers.__version__)
size = dict(vocab_size=80, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1)
# The first token says which row it is.
rows = [{"input_ids": torch.tensor([1 + n, *[70] * (2 + n % 7)]), "labels": torch.tensor(1.0)} for n in range(64)]
read: list[list[int]] = []


def padded(some):
    read.append([int(row["input_ids"][0]) - 1 for row in some])
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in some], batch_first=True)
    return {"input_ids": ids, "labels": torch.stack([row["labels"] for row in some])}


def train(strategy: str, checkpoint: str | None = None):
    torch.manual_seed(0)
    model = Qwen3ForSequenceClassification(Qwen3Config(**size, num_key_value_heads=2, head_dim=8, pad_token_id=0))
    arguments = TrainingArguments(
        output_dir=strategy, train_sampling_strategy=strategy, num_train_epochs=2, per_device_train_batch_size=4, save_steps=5,
        logging_steps=1000, use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=1e-2,
    )  # fmt: skip
    read.clear()
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=padded).train(resume_from_checkpoint=checkpoint)
    return list(read), model.score.weight.detach().clone()


found = {}
for strategy in ("random", "group_by_length"):
    whole, weights = train(strategy)
    assert len(whole) == 32
    for step in (10, 25):
        again, others = train(strategy, f"{strategy}/checkpoint-{step}")
        start, end = step // 16 * 16, (step // 16 + 1) * 16
        before = [row for batch in whole[start:step] for row in batch]
        # What the resumed run read to skip it is not trained on.
        rest = [row for batch in again[step - 32 :][: end - step] for row in batch]
        twice, never = len(set(before) & set(rest)), 64 - len({*before, *rest})
        same = bool(torch.allclose(weights, others, atol=1e-6))
        found[strategy, step] = twice, never, same
        print(f"{strategy:15} resumed at step {step} (16 an epoch): {twice} rows twice, {never} never; same weights at the end: {same}")
assert found["random", 10] == found["random", 25] == found["group_by_length", 10] == (0, 0, True)
assert min(found["group_by_length", 25][:2]) > 5 and not found["group_by_length", 25][2]
PYTHON

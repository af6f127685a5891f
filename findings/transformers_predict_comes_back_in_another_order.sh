#!/usr/bin/env bash
# Guess: train_sampling_strategy="group_by_length" brings rows of like length together in training, as its name says; predict(rows)
#   gives a prediction per row, in the order of the rows, whatever the setting.
# Happens: predict's rows come back grouped by length and shuffled. Label_ids are turned with them, so that every metric that
#   compute_metrics is given looks right; only whoever puts the predictions beside their table (scores for products, a submission, hard
#   negatives, a teacher's scores for distillation) gives each product the score of another, with the right length and no word.
#   Nothing in what is returned says which row is which.
# Source: transformers 5.24.0, Trainer._get_eval_sampler (asked by get_test_dataloader); its pages speak of training alone.
#   huggingface/transformers#33514 wanted faster evaluation; #48025 gave the order a seed. Predict with a Trainer without the setting.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForSequenceClassification, Trainer, TrainingArguments

print("transformers", transformers.__version__)
torch.manual_seed(0)
size = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1)
model = Qwen3ForSequenceClassification(Qwen3Config(**size, num_key_value_heads=2, head_dim=8, pad_token_id=0)).eval()
torch.nn.init.normal_(model.score.weight)
rows = [{"input_ids": torch.randint(1, 50, (3 + 7 * n % 11,)), "labels": torch.tensor(float(n))} for n in range(12)]
with torch.no_grad():
    scores = torch.stack([model(row["input_ids"][None]).logits[0, 0] for row in rows])


def padded(some):
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in some], batch_first=True)
    return {"input_ids": ids, "labels": torch.stack([row["labels"] for row in some])}


found = {}
for strategy in ("random", "group_by_length"):
    arguments = TrainingArguments(
        output_dir=sys.argv[1], train_sampling_strategy=strategy, per_device_eval_batch_size=4, use_cpu=True, report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    result = Trainer(model=model, args=arguments, data_collator=padded).predict(rows)
    places = [int(label) for label in result.label_ids]
    predicted = torch.tensor(result.predictions[:, 0])
    own = int(torch.isclose(predicted, scores, atol=1e-4).sum())
    print(f"{strategy:15} predictions 0 to 11 are of rows {places}: {own} of 12 rows have their own score")
    assert torch.allclose(predicted, scores[places], atol=1e-4)
    found[strategy] = places, own
assert found["random"] == (list(range(12)), 12)
assert sorted(found["group_by_length"][0]) == list(range(12)) and found["group_by_length"][1] < 6
PYTHON

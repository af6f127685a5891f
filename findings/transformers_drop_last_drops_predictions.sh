#!/usr/bin/env bash
# Guess: dataloader_drop_last=True is about training, where a short last batch is unwanted; evaluate and predict see every row.
# Happens: both leave out the last batch where it is short: of 10 rows in batches of 4, predict gives 8, and eval_loss, the metrics, the
#   best checkpoint and early stopping are of 8 rows, always without the same ones (the newest, of a log in order of time), with
#   no word. It depends on per_device_eval_batch_size: two runs that differ in it are measured on different rows.
# Source: transformers 5.24.0 and 5.19.0, Trainer.get_eval_dataloader; its page: "Whether to drop the last incomplete batch
#   … or not", without a word on evaluation.
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
size = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1)
model = Qwen3ForSequenceClassification(Qwen3Config(**size, num_key_value_heads=2, head_dim=8, pad_token_id=0))
rows = [{"input_ids": torch.randint(1, 50, (6,)), "labels": torch.tensor(0.0 if n < 8 else 100.0)} for n in range(10)]
found = {}
for drop in (False, True):
    for batch in (2, 4, 3):
        arguments = TrainingArguments(
            output_dir=sys.argv[1], per_device_eval_batch_size=batch, dataloader_drop_last=drop, use_cpu=True, report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=arguments)
        predicted, loss = len(trainer.predict(rows).predictions), trainer.evaluate(rows)["eval_loss"]
        found[drop, batch] = predicted
        print(f"dataloader_drop_last={drop}, batches of {batch}: {predicted} of 10 rows predicted, eval_loss {loss:.2f}")
        assert (loss > 100) == (predicted > 8)
assert found == {(False, 2): 10, (False, 4): 10, (False, 3): 10, (True, 2): 10, (True, 4): 8, (True, 3): 9}
PYTHON

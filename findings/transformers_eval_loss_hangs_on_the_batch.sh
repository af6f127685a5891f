#!/usr/bin/env bash
# Guess: eval_loss of a causal model is the mean over the tokens with a label, as Trainer's training loss is (since 4.46 it is the same for
#   every split into passes), so that per_device_eval_batch_size and the order of the rows are matters of speed.
# Happens: it is a mean over rows of the mean of the batch that the row was in. In batches of one, a label of three tokens weighs as much as
#   one of forty; in one batch, each token weighs the same; between, it hangs on who stands beside whom. One model has
#   4.78 or 5.20 below, and of forty models another one is the best: load_best_model_at_end, early stopping and a search keep
#   another checkpoint on a larger card. Perplexities of two runs with different batches are not comparable.
# Source: transformers 5.24.0, Trainer.evaluation_loop (loss.repeat(batch size), then the mean; prediction_step passes no
#   num_items_in_batch); its page does not say. Fix the batch size, or choose by a metric of your own,
#   as `reshelf finetune` does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import random
import sys

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__)
size = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0)
chance = torch.Generator().manual_seed(1)
short = [torch.full((3,), 7) for _ in range(8)]  # "yes", said in three tokens
long = [torch.randint(1, 50, (40,), generator=chance) for _ in range(8)]
mixed = [row for pair in zip(short, long) for row in pair]


def collate(rows):
    def pad(name, value):
        return torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)

    return {"input_ids": pad("ids", 0), "attention_mask": pad("mask", 0), "labels": pad("ids", -100)}


def eval_loss(model, rows, batch):
    arguments = TrainingArguments(
        output_dir=sys.argv[1], per_device_eval_batch_size=batch, use_cpu=True, report_to="none", disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model=model, args=arguments, data_collator=collate)
    return trainer.evaluate([{"ids": row, "mask": torch.ones_like(row)} for row in rows])["eval_loss"]


def by_token(model, rows):
    with torch.no_grad():
        sums = [model(input_ids=row[None], labels=row[None]).loss * (len(row) - 1) for row in rows]
    return float(sum(sums)) / sum(len(row) - 1 for row in rows)


models = []
for seed in range(40):
    torch.manual_seed(seed)
    models.append(Qwen3ForCausalLM(Qwen3Config(**size, num_key_value_heads=2, head_dim=8)).eval())
    with torch.no_grad():
        models[-1].lm_head.weight.mul_(20)
found = {batch: [eval_loss(model, mixed, batch) for model in models] for batch in (1, 2, 16)}
tokens = [by_token(model, mixed) for model in models]
for batch, losses in found.items():
    best = min(range(40), key=losses.__getitem__)
    print(f"batches of {batch}: eval_loss of model 0 {losses[0]:.3f}; the best of forty is model {best}")
shuffled = random.Random(0).sample(mixed, len(mixed))
orders = [eval_loss(models[0], rows, 4) for rows in (mixed, shuffled, [*short, *long])]
print("model 0 in batches of 4, three orders of the rows:", [round(loss, 3) for loss in orders])
print(f"by token: model 0 {tokens[0]:.3f}, the best is model {min(range(40), key=tokens.__getitem__)}")
assert max(abs(one - other) for one, other in zip(found[16], tokens)) < 1e-3
assert abs(found[1][0] - found[16][0]) > 0.1
assert max(orders) - min(orders) > 0.1
assert min(range(40), key=found[1].__getitem__) != min(range(40), key=found[16].__getitem__)
PYTHON

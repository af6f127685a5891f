#!/usr/bin/env bash
# Guess: eight lists in one pass, in four passes of two (gradient_accumulation_steps=4) or in two processes of four make the same step.
#   Trainer had this wrong once, for losses by token, and it was mended in 2024.
# Happens: for every …ForSequenceClassification the gradient is summed over the passes, and over the processes: 4 times as large with
#   four passes, 2 times with two processes, 4 times with two of each. A reranker with a score head is trained at a multiple of its
#   learning rate, which clipping at 1.0 then cuts to one length. Trainer takes a loss for one that was divided by
#   num_items_in_batch if forward takes **kwargs; these models do, and hand nothing on to their loss, which is a mean. The logged
#   loss is as much too large, with nothing beside it. …ForCausalLM is right.
# Source: transformers 5.24.0 and 5.19.0, trainer.py (model_accepts_loss_kwargs, loss_is_scaled_for_ga, average_tokens_across_devices),
#   modeling_layers.py, GenericForSequenceClassification.forward. The pages say it only of a compute_loss of one's own. Set
#   trainer.loss_is_scaled_for_ga = False and average_tokens_across_devices=False, as below, or trainer.model_accepts_loss_kwargs = False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.2.6
cat > "$folder/step.py" <<'PYTHON'
import json
import os
import sys
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Qwen3Config, Qwen3ForCausalLM
from transformers import Qwen3ForSequenceClassification, Trainer, TrainingArguments

size = dict(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
qwen = dict(size, num_key_value_heads=2, head_dim=8, pad_token_id=0)
still = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
models = {
    "Qwen3, one score": lambda: Qwen3ForSequenceClassification(Qwen3Config(**qwen, num_labels=1)),
    "Qwen3, two labels": lambda: Qwen3ForSequenceClassification(Qwen3Config(**qwen, num_labels=2)),
    "BERT, one score": lambda: BertForSequenceClassification(BertConfig(**size, **still, num_labels=1)),
    "Qwen3, next token": lambda: Qwen3ForCausalLM(Qwen3Config(**qwen)),
}
batch, passes, mended = int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
prompts = torch.randint(1, 50, (8, 6), generator=torch.Generator().manual_seed(1))
found = {}
for name, make in models.items():
    torch.manual_seed(0)
    labels = prompts if "token" in name else torch.arange(8) % 2 if "labels" in name else torch.arange(8) % 2 * 1.0
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch, gradient_accumulation_steps=passes, max_steps=1,
        optim="sgd", max_grad_norm=0, logging_steps=1, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        average_tokens_across_devices=not mended,
    )
    rows = [{"input_ids": prompt, "labels": label} for prompt, label in zip(prompts, labels)]
    trainer = Trainer(model=make(), args=arguments, train_dataset=rows)
    if mended and "token" not in name:
        trainer.loss_is_scaled_for_ga = False
    trainer.train()
    found[name] = (trainer.state.log_history[0]["loss"], trainer.state.log_history[0]["grad_norm"])
if int(os.environ.get("RANK", 0)) == 0:
    print("FOUND " + json.dumps(found))
PYTHON
cat > "$folder/check.py" <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

folder = sys.argv[1]
print("transformers", version("transformers"))


def step(processes, *arguments):
    start = ["torchrun", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else ["python"]
    start[0] = f"{folder}/venv/bin/{start[0]}"
    done = subprocess.run([*start, f"{folder}/step.py", *arguments], capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    assert line, done.stderr[-2000:]
    return json.loads(line.removeprefix("FOUND "))


whole = step(1, "8", "1")
ways = {
    "4 passes of 2": (step(1, "2", "4"), 4),
    "2 processes of 4": (step(2, "4", "1"), 2),
    "2 processes, 2 passes of 2": (step(2, "2", "2"), 4),
    "4 passes of 2, as it should be": (step(1, "2", "4", "mended"), 1),
    "2 processes, 2 passes of 2, as it should be": (step(2, "2", "2", "mended"), 1),
}
for way, (found, times) in ways.items():
    for name, (loss, gradient) in found.items():
        if "token" in name and "should" in way:
            continue
        print(f"{way}; {name}: loss {loss / whole[name][0]:.2f} times, gradient {gradient / whole[name][1]:.2f} times")
        expected = 1 if "token" in name else times
        assert abs(gradient / whole[name][1] - expected) < 0.02, (way, name)
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/check.py" "$folder"

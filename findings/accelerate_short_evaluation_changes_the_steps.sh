#!/usr/bin/env bash
# Guess: leaving an evaluation loop early (the first 50 batches, now and then in training) has nothing to do with training: with
#   accumulate() the optimizer steps every n batches and at the end of each epoch.
# Happens: the loader that was left stays the one whose end is asked for. Left in the middle, it is never at its end: the last step of the
#   epoch, of fewer than n batches, is not made, its gradient runs on into the first step of the next epoch, and in the last epoch it
#   is lost; with fewer batches than n in an epoch (a small log, a large accumulation), an epoch trains nothing. Left at its last
#   batch (islice(loader, 50) of a loader of 50, or of fewer that break at the limit), it is always at its end: every batch to come in that
#   epoch is a step of its own, with n times as many steps at an nth of the gradient, which Adam makes as large as whole ones. No warning.
# Source: accelerate 1.15.0, data_loader.py, DataLoaderShard.__iter__ (end() stands behind the loop, not in a finally), and
#   Accelerator._do_sync, which asks the latest loader. Cut the data set short, not the loop.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import accelerate
import torch
from accelerate import Accelerator

print("accelerate", accelerate.__version__)


def loader(rows: int):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(rows, 1)), batch_size=1)


def steps(batches: int, evaluated: int) -> list[list[int]]:
    """The batches after which the optimizer stepped, per epoch, with 4 batches a step; in each, 10 rows are evaluated, or fewer."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = torch.nn.Linear(1, 1)
    model, optimizer, training, validation = accelerator.prepare(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loader(batches), loader(10)
    )
    made = []
    for _ in range(2):
        made.append([])
        for batch, (row,) in enumerate(training):
            with accelerator.accumulate(model):
                before = model.weight.clone()
                accelerator.backward(model(row).mean())
                optimizer.step()
                optimizer.zero_grad()
                if not torch.equal(before, model.weight):
                    made[-1].append(batch)
            if batch == 1:
                for number, _ in enumerate(validation, 1):
                    if number == evaluated:
                        break
    accelerator.free_memory()
    return made


found = {}
for batches in (10, 3):
    for evaluated in (11, 10, 3):
        found[batches, evaluated] = steps(batches, evaluated)
        how = {11: "read to its end", 10: "left at its last", 3: "left at its third"}[evaluated]
        print(f"{batches:2} batches an epoch, evaluation {how:17}: steps after batches {found[batches, evaluated]}")
assert found[10, 11] == [[3, 7, 9], [3, 7, 9]] and found[3, 11] == [[2], [2]]
assert found[10, 3] == [[3, 7], [1, 5, 9]]
assert found[10, 10] == [[*range(2, 10)]] * 2
assert found[3, 3] == [[], [0]]
PYTHON

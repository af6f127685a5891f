#!/usr/bin/env bash
# Guess: torch.set_num_threads(n) is for the process, as its page reads ("Sets the number of threads used for intraop parallelism on CPU"): a
#   service that sets it once is done, and one that lowers it for a short piece of work and puts it back has changed nothing.
# Happens: it is for the thread that calls it, and for threads whose first operation comes later. A worker thread that has computed before goes on
#   with the number it had, and a thread whose first operation falls into the short piece of work keeps the low number for good.
# Source: torch 2.13.0, ATen/ParallelOpenMP.cpp: set_num_threads stores a number of the process and calls omp_set_num_threads, which is the calling
#   thread's own; other threads read the stored number once, at their first operation. Call it in each worker (ThreadPoolExecutor(initializer=…)).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
from concurrent.futures import ThreadPoolExecutor

import torch

print("torch", torch.__version__)
values = torch.randn(256, 256)


def threads() -> int:
    values @ values
    return torch.get_num_threads()


torch.set_num_threads(3)
with ThreadPoolExecutor(1) as early, ThreadPoolExecutor(1) as amid, ThreadPoolExecutor(1) as late:
    before = early.submit(threads).result()
    torch.set_num_threads(1)
    lowered = {"main": threads(), "early": early.submit(threads).result(), "amid": amid.submit(threads).result()}
    torch.set_num_threads(3)
    restored = {"main": threads(), "early": early.submit(threads).result(), "amid": amid.submit(threads).result()}
    restored["late"] = late.submit(threads).result()
print("set to 3; a worker that computes:", before)
print("main sets 1:", lowered)
print("main sets 3 again:", restored)
assert before == 3
assert lowered == {"main": 1, "early": 3, "amid": 1}, lowered
assert restored == {"main": 3, "early": 3, "amid": 1, "late": 3}, restored
PYTHON

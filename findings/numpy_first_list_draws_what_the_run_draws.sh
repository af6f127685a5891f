#!/usr/bin/env bash
# Guess: default_rng([seed, number]) gives each list numbers of its own, list 0 too: none draws what default_rng(seed) draws, and
#   [seed, epoch] is not [seed, epoch, 0].
# Happens: zeros at the end are nothing: 7, [7], [7, 0] and [7, 0, 0] are one generator. List 0 is split, sampled and shuffled by the draws of
#   the run itself, its place in a shuffle by the chance of the split, while every other list has its own. Numbers above 2^32 are several:
#   [7 + 3 * 2^32, 5] is [7, 3, 5]. No warning.
# Source: numpy 2.4.6, numpy.random.SeedSequence: entropy is cut into words of 32 bits and filled up with zeros to four; from five words on a zero
#   counts, and in numpy.random.seed, which is older, always. The page of parallel random numbers puts the worker before the seed, and of
#   [root_seed, worker_id] says that it will work. Number from 1, or put a number of the purpose last that is never 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np

print("numpy", np.__version__)


def drawn(seed) -> str:
    return " ".join(str(n) for n in np.random.default_rng(seed).permutation(10))


for seed in (7, [7], [7, 0], [7, 0, 0], [7, 1], [7, 1, 0], [7, 1, 1], [7 + 3 * 2**32, 5], [7, 3, 5]):
    print(f"{seed!s:20} shuffles to {drawn(seed)}")
assert drawn(7) == drawn([7]) == drawn([7, 0]) == drawn([7, 0, 0])
assert drawn([7, 1]) == drawn([7, 1, 0])
assert len({drawn([7, n]) for n in range(100)}) == 100
assert drawn([7 + 3 * 2**32, 5]) == drawn([7, 3, 5])
assert drawn([1, 2, 3, 4]) != drawn([1, 2, 3, 4, 0])
# A run sends a tenth of its lists to validation and shows products at random; the first product of each list, by its own generator:
split = np.random.default_rng(7).random(1_000)
first = np.array([np.random.default_rng([7, n]).random() for n in range(1_000)])
print("lists whose chance of the split is their product's chance:", np.flatnonzero(split[0] == first).tolist())
assert np.flatnonzero(split[0] == first).tolist() == [0]
older = [np.random.RandomState(seed).random() for seed in ([7], [7, 0])]
print("numpy.random.RandomState of [7] and [7, 0]:", *older)
assert older[0] != older[1]
PYTHON

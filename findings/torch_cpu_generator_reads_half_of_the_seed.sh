#!/usr/bin/env bash
# Guess: torch.Generator().manual_seed(seed) takes the 64 bits its page gives as its range: seeds made of two numbers, (epoch << 32) + list, or
#   of a hash of 64 bits, give as many shuffles as there are seeds.
# Happens: on a CPU the lower 32 bits are all that counts. A list is shuffled alike in every epoch; with (list << 32) + epoch all
#   lists are shuffled alike. initial_seed() gives back all 64 bits, as if they had been used. torch.manual_seed likewise.
# Source: torch 2.13.0, torch.Generator.manual_seed ("Any 32-bit integer is a valid seed", within the range of 64 bits), at::mt19937, whose
#   first word is the seed & 0xffffffff. Nothing says what becomes of the rest. Mix the parts first: numpy.random.SeedSequence([seed, epoch, list])
#   .generate_state(1).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import hashlib

import numpy as np
import torch

print("torch", torch.__version__)


def shuffled(seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    assert generator.initial_seed() == seed
    return tuple(torch.randperm(20, generator=generator).tolist())


pairs = [(epoch, number) for epoch in range(10) for number in range(100)]
found = {}
for name, seed in (
    ("epoch * 1000 + list", lambda epoch, number: epoch * 1000 + number),
    ("(epoch << 32) + list", lambda epoch, number: (epoch << 32) + number),
    ("(list << 32) + epoch", lambda epoch, number: (number << 32) + epoch),
    ("SeedSequence", lambda epoch, number: int(np.random.SeedSequence([1, epoch, number]).generate_state(1)[0])),
):
    found[name] = len({shuffled(seed(*pair)) for pair in pairs})
    print(f"{name:20} {len(pairs)} lists of 20 are shuffled in {found[name]} ways")
assert found == {"epoch * 1000 + list": 1000, "(epoch << 32) + list": 100, "(list << 32) + epoch": 10, "SeedSequence": 1000}
torch.manual_seed(5)
first = torch.rand(3)
torch.manual_seed(5 + (9 << 32))
print("torch.manual_seed(5) and of 5 + (9 << 32):", first.tolist(), torch.rand(3).tolist())
torch.manual_seed(5 + (9 << 32))
assert torch.equal(first, torch.rand(3))
hashed = int.from_bytes(hashlib.sha256(b"list 1").digest()[:8], "little")
assert hashed > 2**32
assert shuffled(hashed) == shuffled(hashed % 2**32)
PYTHON

#!/usr/bin/env bash
# Guess: a loop that multiplies by the same three bfloat16 weights, forward and backward, needs the memory of its longest
#   step, however many lengths the inputs have; should oneDNN cache kernels, ONEDNN_PRIMITIVE_CACHE_CAPACITY bounds that.
# Happens: memory grows with every length not seen before, some 4 MB each here, up to 1,024 kernels, and is never given back:
#   gigabytes after a few hundred steps of a language model whose batches are packed without padding. float32 does not do
#   it. There are two caches, and bounding oneDNN's leaves more than half of the growth: torch's own keeps the
#   kernels too (LRU_CACHE_CAPACITY, which no page of torch's reference names). With both at 16 it is flat, and no slower. Both are read
#   at the first multiplication, not at import.
# Source: docs.pytorch.org and uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html; github.com/pytorch/pytorch/issues/27971
#   is the same with convolutions. Takes a CPU with AVX512-BF16 or AMX, Linux.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5
cd "$folder"
cat > grow.py <<'PYTHON'
import random
import sys
from pathlib import Path

import torch

lengths, dtype = sys.argv[1], getattr(torch, sys.argv[2])
weights = [torch.randn(2048, 640, dtype=dtype), torch.randn(640, 2048, dtype=dtype), torch.randn(1024, 640, dtype=dtype)]
draw = random.Random(0)


def held() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) >> 10


for step in range(101):
    x = torch.randn(900 if lengths == "one" else draw.randint(500, 900), 640, dtype=dtype, requires_grad=True)
    y = x
    for weight in weights:
        y = y @ weight.t()
    y.float().sum().backward()
    if step == 0:
        first = held()
print(held() - first)
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys

import torch

print("torch", torch.__version__)
if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
    sys.exit("this CPU multiplies no bfloat16; run it on one that does")


def growth(lengths: str, dtype: str, **bounds: str) -> int:
    made = subprocess.run(
        [sys.executable, "grow.py", lengths, dtype], env=os.environ | bounds, capture_output=True, text=True, check=True
    )
    what = " ".join([lengths, dtype, *(f"{name}={value}" for name, value in bounds.items())])
    print(f"{what:75} -> {int(made.stdout):+5d} MB after 100 steps", flush=True)
    return int(made.stdout)


onednn, torchs = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}, {"LRU_CACHE_CAPACITY": "16"}
assert growth("one", "bfloat16") < 60
many = growth("many", "bfloat16")
assert many > 200
assert growth("many", "float32") < 100
assert growth("many", "bfloat16", **onednn) > many / 3
assert growth("many", "bfloat16", **onednn, **torchs) < 80
PYTHON

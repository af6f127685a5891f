#!/usr/bin/env bash
# Guess: safetensors.numpy.save_file writes a transposed matrix, or every second column of one, as numpy.save does, or refuses it,
#   as safetensors.torch.save_file does ("You are trying to save a non contiguous tensor").
# Happens: the memory is written as it lies, under the shape of the view: embeddings that were saved as `.T` come back with their
#   numbers mixed, of the right shape and type, and nothing says so. Of every second column, others come back.
# Source: safetensors 0.8.0, numpy.py, _flatten; the docstring says "need to be contiguous". Call np.ascontiguousarray first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load_file, save_file

print("safetensors", version("safetensors"), "numpy", np.__version__)
items = np.arange(6.0).reshape(2, 3)
for what, array in (("as it is", items), ("items.T", items.T), ("items[:, ::2]", items[:, ::2])):
    save_file({"items": array}, "items.safetensors")
    read = load_file("items.safetensors")["items"]
    same = np.array_equal(read, array)
    print(f"{what:14} saved {array.tolist()}, read {read.tolist()}")
    assert read.shape == array.shape
    assert same == (what == "as it is"), what
save_file({"items": np.ascontiguousarray(items.T)}, "items.safetensors")
assert np.array_equal(load_file("items.safetensors")["items"], items.T)
PYTHON

#!/usr/bin/env bash
# Guess: fused by min-max (ranx's own default), a run's only hit counts 1, as its first hit always does, and as OpenSearch normalises
#   it; or the division by zero is refused, or NaN.
# Happens: it counts 0, as the last hit of a run and as a product that was not found at all. A search by number that finds the one
#   right product adds nothing to it, so that it stands below all but the last of the other run, whatever the weights of wsum; a run
#   whose scores are all equal (a filter, a list of bought products) has no vote. norm="max" and "rank", and method="rrf", give it 1.
# Source: ranx 0.3.21, ranx/normalization/min_max_norm.py (denominator max(max - min, 1e-9)); amenra.github.io/ranx/normalization has the
#   formula (score - min) / (max - min).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ranx==0.3.21 numpy==2.2.6
NUMBA_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from ranx import Run, fuse

print("ranx", version("ranx"))
words = {"shoe": 9.0, "boot": 8.0, "sock": 4.0, "lace": 1.0}
runs = {"one hit": {"SKU-7": 12.5}, "equal scores": {"SKU-7": 1.0, "SKU-8": 1.0, "SKU-9": 1.0}}
found = {}
for name, other in runs.items():
    for norm, method, params in (
        ("min-max", "sum", None), ("min-max", "wsum", {"weights": (0.1, 0.9)}), ("max", "sum", None), ("rank", "sum", None),
    ):
        fused = fuse([Run({"q": words}), Run({"q": other})], norm=norm, method=method, **({"params": params} if params else {}))
        scores = {product: round(float(score), 3) for product, score in fused.to_dict()["q"].items()}
        found[name, norm, method] = scores
        print(f"{name}, {norm}, {method}: {scores}")
default = fuse([Run({"q": words}), Run({"q": runs["one hit"]})], method="sum").to_dict()["q"]
assert default["SKU-7"] == 0
for (name, norm, method), scores in found.items():
    if norm == "min-max":
        assert scores["SKU-7"] == scores["lace"] == 0 < scores["sock"], (name, method)
    elif name == "one hit":
        assert scores["SKU-7"] == 1
PYTHON

#!/usr/bin/env bash
# Guess: how many places a product rose or fell, pl.col("before").rank("ordinal") - pl.col("after").rank("ordinal"), is a number with a sign, as
#   pandas has it, and as polars itself has it for rank() without a method.
# Happens: ordinal, dense, min and max ranks are UInt32 and their difference too: two places down is 4,294,967,294. A sort by the change
#   puts what fell above what rose, and the mean change is in the billions. rank() is an average, a float, so that the sign comes and goes with
#   the method. pl.len() is of that type as well. No error, no warning.
# Source: polars 2.1.0, Expr.rank, len (their pages do not name the type; intended, polars#11465). cast(pl.Int64) first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0
"$folder/venv/bin/python" -W error - <<'PYTHON'
import polars as pl

print("polars", pl.__version__)
scores = pl.DataFrame({"item_id": ["a", "b", "c"], "before": [0.1, 0.5, 0.9], "after": [0.9, 0.5, 0.1]})
before, after = pl.col("before"), pl.col("after")
found = {}
for method in ("average", "ordinal", "dense", "min", "max"):
    change = scores.select((before.rank(method) - after.rank(method)).alias("change"))["change"]
    signed = scores.select((before.rank(method).cast(pl.Int64) - after.rank(method).cast(pl.Int64)).alias("change"))["change"]
    found[method] = change.to_list(), signed.to_list()
    print(f"{method:8} {change.dtype} {found[method][0]}, cast first {found[method][1]}")
left = scores.select((pl.len() - 1 - before.rank("ordinal")).alias("left"))["left"].to_list()
print("places below, pl.len() - 1 - rank:", left)
assert found.pop("average") == ([-2.0, 0.0, 2.0], [-2, 0, 2])
assert all(pair == ([2**32 - 2, 0, 2], [-2, 0, 2]) for pair in found.values())
assert left == [1, 0, 2**32 - 1]
PYTHON

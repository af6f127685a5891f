#!/usr/bin/env bash
# Guess: shuffle(seed=1).over("list_id") shuffles each list by itself, from one stream of random numbers that begins at 1, as a loop over
#   the lists with one generator does, and pandas' groupby("list_id").sample(frac=1, random_state=1).
# Happens: the stream begins anew in each list. All lists of one length get the same permutation: candidates of which the clicked one was the
#   first, shuffled so that a model cannot learn its place, have it in one and the same place in every list, and a model that reads
#   places, or an evaluation that breaks ties by them, is right in all of them. sample(1, seed=1) per shopper, for leaving one out, takes the same place of every
#   shopper with as many events. Without a seed they differ; set_random_seed() does not make that repeatable with .over().
# Source: polars 2.1.0 (Expr.shuffle: "seed for the random number generator"); pola-rs/polars#10388 made it so on purpose, #27307 is open.
#   Shuffle all rows once and sort by the list: df.sample(fraction=1, shuffle=True, seed=1).sort("list_id", maintain_order=True).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import pandas as pd
import polars as pl

print("polars", pl.__version__)
lists, size = 200, 10
rows = pl.DataFrame({"list_id": [n for n in range(lists) for _ in range(size)], "clicked": [1, *[0] * (size - 1)] * lists})
place = pl.int_range(pl.len()).over("list_id").alias("place")


def places(shuffled: pl.DataFrame) -> int:
    return shuffled.with_columns(place).filter(pl.col("clicked") == 1)["place"].n_unique()


in_pandas = pd.DataFrame(rows.to_dict(as_series=False))
found = {
    "shuffle(seed=1).over(list)": rows.with_columns(pl.col("clicked").shuffle(seed=1).over("list_id")),
    "agg(shuffle(seed=1))": rows.group_by("list_id").agg(pl.col("clicked").shuffle(seed=1)).explode("clicked"),
    "shuffle().over(list)": rows.with_columns(pl.col("clicked").shuffle().over("list_id")),
    "all rows once": rows.sample(fraction=1, shuffle=True, seed=1).sort("list_id", maintain_order=True),
    "pandas": pl.DataFrame(in_pandas.groupby("list_id").sample(frac=1, random_state=1).to_dict("list")),
}
for name, shuffled in found.items():
    print(f"{name}: the clicked one of {lists} lists is in {places(shuffled)} of {size} places")
left_out = rows.with_columns(place).group_by("list_id").agg(pl.col("place").sample(1, seed=1)).explode("place")
print("sample(1, seed=1) of each list takes", left_out["place"].n_unique(), "place")
assert [places(one) for one in found.values()] == [1, 1, size, size, size]
assert left_out["place"].n_unique() == 1
PYTHON

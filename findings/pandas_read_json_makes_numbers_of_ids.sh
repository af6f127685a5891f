#!/usr/bin/env bash
# Guess: JSON has types, so read_json keeps "0005019281" the text it is; only CSV needs dtype=str.
# Happens: a column whose texts all look like numbers becomes int64: the ASIN of a book, 0005019281, is 5019281. With chunksize each
#   piece decides for itself, so that one product is a number in one piece and a text in the next, and joins and counts lose it.
#   A column called "timestamp", "date" or "..._at" becomes a time in the same way.
# Source: pandas 3.1.1, read_json ("dtype: if True, infer dtypes", and True is the default). Pass dtype=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import pandas as pd

print("pandas", pd.__version__)
asins = ["0005019281", "0005092663", "B00005N7P0", "0005019281"]
Path("reviews.jsonl").write_text("".join(f'{{"asin": "{asin}", "rating": 5}}\n' for asin in asins))
Path("books.jsonl").write_text("".join(f'{{"asin": "{asin}", "rating": 5}}\n' for asin in asins[:2]))
whole = pd.read_json("reviews.jsonl", lines=True)["asin"].tolist()
books = pd.read_json("books.jsonl", lines=True)["asin"].tolist()
pieces = [piece["asin"].tolist() for piece in pd.read_json("reviews.jsonl", lines=True, chunksize=2)]
kept = pd.read_json("books.jsonl", lines=True, dtype=False)["asin"].tolist()
print("with a B00… among them:", whole)
print("digits alone:          ", books)
print("in pieces of two:      ", pieces)
print("digits, dtype=False:   ", kept)
assert whole == asins
assert books == [5019281, 5092663]
assert pieces == [[5019281, 5092663], ["B00005N7P0", "0005019281"]]
assert kept == asins[:2]
PYTHON

#!/usr/bin/env bash
# Guess: names=[...] means what it means in pandas: the file has no header line, every line is a row.
# Happens: if all columns are text, the first line is taken for a header all the same and is gone; header=false must be said.
# Source: duckdb.org/docs/current/data/csv/overview (names, header); found with news.tsv of MIND, where every column is text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pathlib

import duckdb

print("duckdb", duckdb.__version__)
pathlib.Path("news.tsv").write_text("N7\tfood\tmugs\nN8\thome\tpots\nN9\thome\ttrays\n")
names = "names = ['id', 'category', 'subcategory']"
rows = duckdb.sql(f"SELECT * FROM read_csv('news.tsv', {names})").fetchall()
all_rows = duckdb.sql(f"SELECT * FROM read_csv('news.tsv', {names}, header = false)").fetchall()
print("three lines, names given:                  ", rows)
print("three lines, names given and header = false:", all_rows)
assert [row[0] for row in rows] == ["N8", "N9"], rows
assert [row[0] for row in all_rows] == ["N7", "N8", "N9"], all_rows
PYTHON

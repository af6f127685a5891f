#!/usr/bin/env bash
# Guess: text beside a whole number is refused, as DuckDB refuses '7.4' > 7 ("an explicit cast is required"); or '7.4' = 7 is false, for as
#   numbers they differ and as texts too.
# Happens: = is not refused where > is: the text becomes a whole number by rounding. '7.4' = 7 is true and so is '6.5' = 7, in WHERE, in
#   IN (…) and in every join. An SKU with a variant behind a point, '1042.1', '1042.2', joins product 1042, '1042.7' joins 1043, and
#   '0042' joins 42: clicks of one product are another's, without a word. sku IN (SELECT id …) is refused. What is read rounds
#   likewise: of a CSV with 3.5 and 1042.7, read_csv(types = {rating: 'INTEGER', sku: 'BIGINT'}) and COPY make 4 and 1043; polars refuses.
# Source: duckdb 2.0.1, duckdb.org/docs/current/sql/data_types/typecasting ("an implicit cast … only possible when the cast cannot fail").
#   Cast the number: sku = id::VARCHAR. Ids are texts to Reshelf's import, on both sides of its joins.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import duckdb

print("duckdb", duckdb.__version__)
con = duckdb.connect()
con.execute("CREATE TABLE clicks AS FROM (VALUES ('1042'), ('1042.1'), ('1042.7'), ('0042')) t(sku)")
con.execute("CREATE TABLE products AS FROM (VALUES (42::BIGINT), (1042), (1043)) t(id)")
found = {}
for query in (
    "SELECT sku, id FROM clicks JOIN products ON sku = id ORDER BY ALL",
    "SELECT sku, id FROM clicks JOIN products ON sku = id::VARCHAR ORDER BY ALL",
    "SELECT sku FROM clicks WHERE sku = 1042 ORDER BY ALL",
    "SELECT sku FROM clicks WHERE sku IN (1042, 43) ORDER BY ALL",
    "SELECT '7.4' = 7, '6.5' = 7, '6.4' = 7",
    "SELECT sku FROM clicks WHERE sku > 1042",
    "SELECT sku FROM clicks WHERE sku IN (SELECT id FROM products)",
):
    try:
        found[query] = con.execute(query).fetchall()
    except duckdb.BinderException as error:
        found[query] = "an explicit cast is required" if "an explicit cast is required" in str(error) else str(error)
    print(query, "->", found[query])
Path(f"{sys.argv[1]}/ratings.csv").write_text("sku,rating\n1042.7,3.5\n", encoding="utf-8")
types = "{sku: 'BIGINT', rating: 'INTEGER'}"
read = con.execute(f"FROM read_csv('{sys.argv[1]}/ratings.csv', types = {types})").fetchall()
con.execute("CREATE TABLE ratings (sku BIGINT, rating INTEGER)")
con.execute(f"COPY ratings FROM '{sys.argv[1]}/ratings.csv'")
print("1042.7,3.5 of a CSV, read and copied into whole numbers ->", read, con.execute("FROM ratings").fetchall())
joined, as_text, equal, among, values, larger, subquery = found.values()
assert joined == [("0042", 42), ("1042", 1042), ("1042.1", 1042), ("1042.7", 1043)]
assert as_text == [("1042", 1042)]
assert equal == among == [("1042",), ("1042.1",)]
assert read == con.execute("FROM ratings").fetchall() == [(1043, 4)]
assert values == [(True, True, False)]
assert larger == subquery == "an explicit cast is required"
PYTHON

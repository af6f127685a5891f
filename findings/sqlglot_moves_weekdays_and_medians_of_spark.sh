#!/usr/bin/env bash
# Guess: sqlglot.transpile(read="spark", write="duckdb", unsupported_level=RAISE) gives SQL that means the same, or raises: a feature query of the
#   nightly Spark job can be run in DuckDB where the model is served or tested.
# Happens: of the examples on Spark's own page of functions the weekday is one less (dayofweek) or one more (weekday), percentile is a value of the
#   table in place of one between two (a median price of 10 and 20 is 10), CAST(2.7 AS INT) is 3 for 2, and hash(), the bucket of an
#   experiment, another number. From BigQuery EXTRACT(DAYOFWEEK ...) is one less. Nothing raises, nothing warns; weeks and the place of NULL
#   in an ORDER BY are translated.
# Source: sqlglot 30.30.0, duckdb 2.0.1; spark.apache.org/docs/latest/api/sql (dayofweek, weekday, percentile, hash, cast), cloud.google.com,
#   "Date functions" (DAYOFWEEK 1 is Sunday). Compare both on one day's rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q sqlglot==30.30.0 duckdb==2.0.1
"$folder/venv/bin/python" -W error - <<'PYTHON'
import logging

import duckdb
import sqlglot

logged = []
logging.getLogger("sqlglot").addHandler(type("Keep", (logging.Handler,), {"emit": lambda self, record: logged.append(record)})())
print("sqlglot", sqlglot.__version__, "duckdb", duckdb.__version__)
database = duckdb.connect()
spark = {  # with the results that Spark's pages give
    "SELECT dayofweek('2009-07-30')": 5,
    "SELECT weekday(DATE '2009-07-30')": 3,
    "SELECT percentile(col, 0.3) FROM VALUES (0), (10) AS tab(col)": 3.0,
    "SELECT CAST(2.7 AS INT)": 2,
    "SELECT hash('Spark')": 228093765,
    "SELECT date_trunc('WEEK', DATE '2026-11-29') = DATE '2026-11-23'": True,
}
found = {}
for query, right in spark.items():
    (text,) = sqlglot.transpile(query, read="spark", write="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    found[query] = database.execute(text).fetchone()[0]
    print(f"{query}: Spark {right}, translated {found[query]}")
(text,) = sqlglot.transpile("SELECT EXTRACT(DAYOFWEEK FROM DATE '2026-11-29')", read="bigquery", write="duckdb")
sunday = database.execute(text).fetchone()[0]
print("a Sunday of BigQuery: 1, translated", sunday)
assert [found[query] for query in list(spark)[:4]] == [4, 4, 0, 3] and sunday == 0
assert found["SELECT hash('Spark')"] != 228093765 and list(found.values())[-1] is True and not logged
PYTHON

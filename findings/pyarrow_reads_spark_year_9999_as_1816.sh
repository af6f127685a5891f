#!/usr/bin/env bash
# Guess: a time that does not fit is refused ("would overflow"), as pyarrow's cast to nanoseconds does; else it is the time in the file.
# Happens: INT96, in which Spark and Hive write times by default, becomes nanoseconds that wrap around: "valid until 9999-12-31" is
#   29 March 1816, and 0001-01-01 the year 1754. Prices without an end have ended two hundred years ago, and no product has a price.
#   pandas.read_parquet the same. DuckDB reads both as they are.
# Source: pyarrow 26.0.1, parquet.read_table (coerce_int96_timestamp_unit: "may result in undefined results" is said of INT96 beyond
#   nanoseconds). Pass coerce_int96_timestamp_unit="us".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 duckdb==2.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__, "duckdb", duckdb.__version__)
times = [datetime(9999, 12, 31), datetime(2024, 3, 1), datetime(1, 1, 1)]
table = pa.table({"until": pa.array(times, pa.timestamp("us"))})
pq.write_table(table, "prices.parquet", use_deprecated_int96_timestamps=True)
assert "optional int96" in str(pq.ParquetFile("prices.parquet").schema)
read = [str(value)[:10] for value in pq.read_table("prices.parquet")["until"]]
us = pq.read_table("prices.parquet", coerce_int96_timestamp_unit="us")["until"].to_pylist()
own = [row[0] for row in duckdb.sql("FROM 'prices.parquet'").fetchall()]
print("written ", [f"{time:%Y-%m-%d}" for time in times])
print("pyarrow ", read)
print("with us ", [f"{time:%Y-%m-%d}" for time in us])
assert read == ["1816-03-29", "2024-03-01", "1754-08-30"], read
assert us == times == own
PYTHON

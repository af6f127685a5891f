#!/usr/bin/env bash
# Guess: convert_dtypes, or read_sql with dtype={"item_id": "Int64"}, gives a column of ids with gaps that is exact: Int64 is there so that whole
#   numbers with a missing one need not become floats.
# Happens: they become floats on the way. A column of Python's whole numbers (object) with one None is made float64 first and Int64 after, so
#   that ids above 2^53 lose their last digits and neighbours are one, under a type that holds them. Without a None they are exact, as they
#   are by astype("Int64") and by read_sql(dtype_backend="numpy_nullable"). No warning.
# Source: pandas 3.1.1, Series.convert_dtypes, read_sql ("dtype: Data type for data or columns"). Write astype("Int64"), or dtype_backend.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3
import warnings

import pandas as pd

warnings.simplefilter("error")
print("pandas", pd.__version__)
ids = [2**53, 2**53 + 1, None]
base = sqlite3.connect(":memory:")
base.execute("CREATE TABLE clicks (item_id INTEGER)")
base.executemany("INSERT INTO clicks VALUES (?)", [(some,) for some in ids])
read = "SELECT item_id FROM clicks"
found = {
    "convert_dtypes": pd.Series(ids, dtype=object).convert_dtypes(),
    "convert_dtypes, no gap": pd.Series(ids[:2], dtype=object).convert_dtypes(),
    "astype": pd.Series(ids, dtype=object).astype("Int64"),
    "read_sql, dtype": pd.read_sql(read, base, dtype={"item_id": "Int64"})["item_id"],
    "read_sql, dtype_backend": pd.read_sql(read, base, dtype_backend="numpy_nullable")["item_id"],
}
for name, column in found.items():
    print(f"{name:24} {column.dtype} {column.tolist()}, {column.nunique()} products")
assert {str(column.dtype) for column in found.values()} == {"Int64"}
assert {name: column.nunique() for name, column in found.items()} == {
    "convert_dtypes": 1, "convert_dtypes, no gap": 2, "astype": 2, "read_sql, dtype": 1, "read_sql, dtype_backend": 2,
}  # fmt: skip
PYTHON

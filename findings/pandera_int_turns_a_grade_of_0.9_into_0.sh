#!/usr/bin/env bash
# Guess: Column(int, coerce=True) takes 3.0 for 3 and refuses 3.7, as it refuses 300 for int8, -1 for uint8 and a missing value for int.
# Happens: what stands behind the point is cut off before any check is made: grades of 3.7 are 3, a click rate of 0.9 is 0, -0.5 is 0 and passes
#   ge(0). "int8" and pl.Int64 (polars) do the same, "Int64", the type pandas offers for missing ones, refuses. The table that comes back
#   is valid. No warning.
# Source: pandera 0.35.0, pandera.engines.pandas_engine, polars_engine; their pages do not say it. "Int64", or a check on a
#   float column.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pandera[polars,pandas]==0.35.0" pandas==3.1.1 polars==2.1.0 numpy==2.3.5
"$folder/venv/bin/python" -W error::RuntimeWarning - <<'PYTHON'
import importlib.metadata
import warnings

import pandas as pd
import polars as pl

warnings.simplefilter("ignore", DeprecationWarning)
import pandera.pandas as pa  # noqa: E402
import pandera.polars as pp  # noqa: E402

print("pandera", importlib.metadata.version("pandera"))
grades = [3.7, 0.9, -0.5, 4.0]
found = {}
for kind in (int, "int8", "Int64"):
    schema = pa.DataFrameSchema({"grade": pa.Column(kind, pa.Check.ge(0), coerce=True)})
    try:
        found[str(kind)] = schema.validate(pd.DataFrame({"grade": grades}))["grade"].tolist()
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        found[str(kind)] = type(error).__name__
schema = pp.DataFrameSchema({"grade": pp.Column(pl.Int64, pp.Check.ge(0), coerce=True)})
found["pl.Int64"] = schema.validate(pl.DataFrame({"grade": grades}))["grade"].to_list()
for kind, values in found.items():
    print(f"{kind}: {values}")
assert found["<class 'int'>"] == found["int8"] == found["pl.Int64"] == [3, 0, 0, 4]
assert found["Int64"].startswith("SchemaError")
for kind, value in (("int8", 300), ("uint8", -1), (int, None)):
    try:
        pa.DataFrameSchema({"grade": pa.Column(kind, coerce=True)}).validate(pd.DataFrame({"grade": [value]}))
        raise SystemExit("taken")
    except (pa.errors.SchemaError, pa.errors.SchemaErrors):
        print(f"{value} as {kind} is refused")
PYTHON

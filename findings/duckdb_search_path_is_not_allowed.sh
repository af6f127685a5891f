#!/usr/bin/env bash
# Guess: with SET file_search_path = '/data' and allowed_directories = ['/data'], FROM 'a.csv' reads /data/a.csv: the path is found
#   there, and the folder is allowed.
# Happens: 'Permission Error: Cannot access file "a.csv"'. What is allowed is checked on the path as written, before the search path
#   is looked at. With '.' allowed as well it is read, but then a file of that name in the process's own folder comes first: the
#   same SQL reads another file, outside of /data, wherever the process was started.
# Source: duckdb.org/docs/current/operations_manual/securing_duckdb/overview; write absolute paths into SQL that is not one's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
mkdir "$folder/data" "$folder/here"
printf 'x\n1\n' > "$folder/data/a.csv"
cd "$folder/here"
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import sys
from pathlib import Path

import duckdb

data = sys.argv[1]
print("duckdb", duckdb.__version__)


def read(*allowed: str) -> object:
    base = duckdb.connect()
    base.execute(f"SET file_search_path = '{data}'")
    base.execute(f"SET allowed_directories = {[data, *allowed]}")
    base.execute("SET enable_external_access = false")
    try:
        return base.execute("FROM read_csv('a.csv')").fetchall()
    except duckdb.PermissionException as error:
        return str(error).split("\n")[0]


print("allowed: the search path  ->", refused := read())
print("allowed: . as well        ->", found := read("."))
Path("a.csv").write_text("x\n2\n")
print("and a.csv in this folder  ->", other := read("."))
assert "Cannot access file" in str(refused), refused
assert found == [(1,)], found
assert other == [(2,)], other
PYTHON

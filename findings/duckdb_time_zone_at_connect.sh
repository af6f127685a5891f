#!/usr/bin/env bash
# Guess: duckdb.connect(config={"TimeZone": "UTC"}) is SET TimeZone = 'UTC' from the start, as with every other setting.
# Happens: refused, "the icu extension needs to be loaded. But it could not be autoloaded", though icu is linked into the wheel and
#   loaded a moment later: options of extensions are looked for before the extensions are there.
# Instead: connect, then SET TimeZone = 'UTC'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
try:
    duckdb.connect(config={"TimeZone": "UTC"})
    raise AssertionError("taken")
except duckdb.InvalidInputException as error:
    print("at connect:", error)
base = duckdb.connect()
base.execute("SET TimeZone = 'UTC'")
query = "SELECT current_setting('TimeZone'), loaded, install_mode FROM duckdb_extensions() WHERE extension_name = 'icu'"
found = base.execute(query).fetchall()
print("after it:", found)
assert found == [("UTC", True, "STATICALLY_LINKED")], found
PYTHON

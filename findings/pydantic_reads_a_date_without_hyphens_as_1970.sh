#!/usr/bin/env bash
# Guess: a datetime field reads "20240301" (ISO 8601, basic format, as exports and folder names write days) as 1 March 2024, as
#   datetime.fromisoformat does, or refuses it.
# Happens: 23 August 1970, 6:18. Text of digits alone is seconds since 1970, and above 2e10 milliseconds: "20240301101010" is in the
#   year 2611, "2024" in the first hour of 1970. Each is a valid time; a `date` field refuses the same texts.
# Source: pydantic 2.14.4, docs.pydantic.dev, conversion table (datetime from str: numeric strings). Reshelf reads
#   such digits as the day that they are, in records and requests as in imports (data/schema.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic==2.14.4
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import datetime

import pydantic

print("pydantic", pydantic.VERSION)
reads = pydantic.TypeAdapter(datetime).validate_python
found = {text: f"{reads(text):%Y-%m-%d %H:%M}" for text in ("2024-03-01", "20240301", "20240301101010", "2024")}
for text, time in found.items():
    print(f"{text:15} -> {time}")
print("fromisoformat  ->", datetime.fromisoformat("20240301"))
assert list(found.values()) == ["2024-03-01 00:00", "1970-08-23 06:18", "2611-05-23 17:51", "1970-01-01 00:33"]
PYTHON

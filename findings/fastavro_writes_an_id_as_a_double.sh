#!/usr/bin/env bash
# Guess: a whole number in a field of ["null", "double", "long"] is written as long, the branch that has its type, as Apache's own avro
#   package does it, and Java's; the order of a union says which default it may have, and nothing else.
# Happens: fastavro takes the first branch that a number fits, and a whole number fits double: ids above 2^53 lose their last digits,
#   neighbours become one, and every small one comes back as 7.0, which joins no text "7". A schema that was written for another language's producer
#   is enough, or one that a registry put together from two versions. For ["float", "double"] fastavro does look for the wider one.
# Source: fastavro 1.13.1, _write.pyx, write_union (fastavro/fastavro#437 was about float and double); avro 1.12.2. The pages say that
#   a union takes a tuple (branch, value) to be told: ("long", id). Put long before double. Reshelf reads Parquet, CSV, JSON and SQL only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q fastavro==1.13.1 avro==1.12.2
"$folder/venv/bin/python" - <<'PYTHON'
import io
import json
from importlib.metadata import version

import fastavro
from avro.datafile import DataFileReader, DataFileWriter
from avro.io import DatumReader, DatumWriter
from avro.schema import parse

print("fastavro", version("fastavro"), "avro", version("avro"))
IDS = [9007199254740993, 9007199254740992, 7]


def schema(union: list[str]) -> dict[str, object]:
    return {"type": "record", "name": "Event", "fields": [{"name": "item", "type": union}]}


def by_fastavro(union: list[str], values: list[object]) -> list[object]:
    file = io.BytesIO()
    fastavro.writer(file, schema(union), [{"item": value} for value in values])
    file.seek(0)
    return [row["item"] for row in fastavro.reader(file)]


def by_avro(union: list[str]) -> list[object]:
    file = io.BytesIO()
    writer = DataFileWriter(file, DatumWriter(), parse(json.dumps(schema(union))))
    for one in IDS:
        writer.append({"item": one})
    writer.flush()
    file.seek(0)
    return [row["item"] for row in DataFileReader(file, DatumReader())]


first, last = ["null", "double", "long"], ["null", "long", "double"]
print("double before long: fastavro", by_fastavro(first, IDS), "avro", by_avro(first))
print("long before double: fastavro", by_fastavro(last, IDS))
print("told:", by_fastavro(first, [("long", one) for one in IDS]))
assert by_fastavro(first, IDS) == [2.0**53, 2.0**53, 7.0]
assert all(isinstance(one, float) for one in by_fastavro(first, IDS))
assert by_avro(first) == by_fastavro(last, IDS) == IDS
assert by_fastavro(first, [("long", one) for one in IDS]) == IDS
assert by_fastavro(["null", "float", "double"], [0.1]) == [0.1]
PYTHON

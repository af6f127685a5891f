#!/usr/bin/env bash
# Guess: what UBI's clients record (action "click", a UUID or any other text as query_id) is valid by UBI's JSON schema 1.3.
# Happens: the default actions are refused and actions of one's own are not; every query_id is refused, or with a checker of formats every UUID: `oneOf` holds a narrow and a wide branch, and what fits both fits too many.
# Source: github.com/o19s/ubi, schema/1.3.0/event.schema.json (the parts below); check for the required fields alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jsonschema==4.26.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from jsonschema import Draft202012Validator

print("jsonschema", version("jsonschema"))
ACTIONS = ["click_through", "add_to_cart", "click", "watch", "view", "purchase", "impression"]
schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["action_name", "timestamp"],
    "properties": {
        "action_name": {
            "oneOf": [{"type": "string", "maxLength": 100, "enum": ACTIONS}, {"type": "string", "maxLength": 100}]
        },
        "query_id": {"oneOf": [{"type": "string", "format": "uuid"}, {"type": "string", "maxLength": 100}]},
    },
}
plain = Draft202012Validator(schema)
strict = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
uuid = "00112233-4455-6677-8899-aabbccddeeff"
found = []
for event in ({"action_name": "click"}, {"action_name": "wink"}, {"action_name": "wink", "query_id": "q1"},
              {"action_name": "wink", "query_id": uuid}):
    event["timestamp"] = "2026-03-01T10:00:00Z"
    found.append((plain.is_valid(event), strict.is_valid(event)))
    print(f"{event!s:120} valid: {found[-1][0]}, with formats checked: {found[-1][1]}")
assert found == [(False, False), (True, True), (False, True), (False, False)]
PYTHON

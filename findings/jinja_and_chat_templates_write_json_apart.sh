#!/usr/bin/env bash
# Guess: a chat template is a Jinja template: jinja2 renders it to the same text as apply_chat_template (and as vLLM, which calls it).
# Happens: `tojson` escapes & < > ' as \u0026 … in jinja2, for it is made for HTML, and not in transformers, which has its own; and
#   transformers sets trim_blocks and lstrip_blocks, so that line ends and indents beside {% … %} are gone. Prompts trained on
#   with one and served with the other differ in every title with an ampersand, and give scores all the same.
# Source: transformers 5.24.0, utils/chat_template_utils.py; jinja2 3.1.6, htmlsafe_json_dumps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.24.0 jinja2==3.1.6 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
from importlib.metadata import version

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

print("transformers", version("transformers"), "jinja2", version("jinja2"))
template = "{% for message in messages %}\n  {{ message.content | tojson }}\n{% endfor %}\nRelevant?"
messages = [{"role": "user", "content": "Mug & lid, <0.5 l"}]
by_jinja = jinja2.Template(template).render(messages=messages)
by_transformers = render_jinja_template([messages], chat_template=template)[0][0]
print("jinja2:      ", repr(by_jinja))
print("transformers:", repr(by_transformers))
assert by_jinja == '\n  "Mug \\u0026 lid, \\u003c0.5 l"\n\nRelevant?'
assert by_transformers == '  "Mug & lid, <0.5 l"\nRelevant?'
PYTHON
